"""Embedding files in the form of those that the paper published, made for tests."""

import pickle

import numpy as np


def vectors(count, dimension=8, seed=0):
    random = np.random.default_rng(seed)
    return [(str(number + 1), random.standard_normal(dimension).astype(np.float32)) for number in range(count)]


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path
