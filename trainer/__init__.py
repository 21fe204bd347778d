"""The trainer, installed as `dpr_lance.trainer`: the only package with torch and transformers."""
