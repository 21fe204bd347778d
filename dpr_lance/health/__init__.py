"""What a table holds, whether all of it is whole, and how what is damaged is made again."""
