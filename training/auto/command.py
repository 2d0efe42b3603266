"""``python -m training fit-auto``: fits the tree by which ``model=auto`` chooses, and tells how often it is right."""

import argparse
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.images.decoder import decode_container
from app.images.formats import DecodeLimits, read_container
from app.images.traits import Traits, traits_of
from training.auto.pictures import samples

Known = tuple[str, str, str, Traits]
