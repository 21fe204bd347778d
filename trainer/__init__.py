"""The trainer room, installed as `dpr_lance.trainer`: the only one with torch and transformers."""
