"""Tables and sentences from results: nothing here measures, and no case renders."""
