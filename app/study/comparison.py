"""A blind comparison of the models: each participant rates every version of every image, in an order of their own.

The design is the mean-opinion-score test of SRGAN (Ledig et al. 2017, 3.4): single images, rated from 1 to 5, with
the originals and plain interpolation among them. The rating scale is that of ITU-R BT.500. Participants receive
nothing that names a model: trials are identified by a keyed hash, and versions of an image never follow one another.
"""

import hashlib
import hmac
import json
import random
from collections import defaultdict
from dataclasses import asdict
from itertools import groupby
from typing import Any

from app.errors import UnknownTrialError
from app.settings import StudySettings
from app.study.ratings import MeanOpinionScore, Rating, RatingStore, mean_opinion_score
from app.study.stimuli import Key, Stimuli
from app.upscale.upscaler import Upscaler

WORDS = {1: "Bad", 2: "Poor", 3: "Fair", 4: "Good", 5: "Excellent"}  # ITU-R BT.500, the quality scale
INTERVAL = "95 %, Student's t over observers"


class Study:
    """Who sees which trial in which order, and the ratings."""

    def __init__(self, settings: StudySettings, upscaler: Upscaler, deadline_seconds: float) -> None:
        assert settings.folder
        self.scale = settings.scale
        self.stimuli = Stimuli(settings.folder, self.scale, settings.original, upscaler, deadline_seconds)
        self.store = RatingStore(settings.database or settings.folder / "study.sqlite3", self.scale)

    def trials(self, participant: str) -> dict[str, Key]:
        """The participant's trials by opaque id, in their order; stable for as long as the images are."""
        keys = [(picture, version) for picture in self.stimuli.pictures for version in self.stimuli.versions]
        order = random.Random(self._hash(participant, "order"))
        return {self._hash(participant, *key)[:24]: key for key in apart(keys, order)}

    def find(self, participant: str, trial: str) -> Key:
        """Image and version of a trial."""
        key = self.trials(participant).get(trial)
        if key is None:
            raise UnknownTrialError("No such trial. The study's images may have changed; reload the page.")
        return key

    def session(self, participant: str) -> dict[str, Any]:
        """What the page needs: the trials in order, with the scores so far."""
        scores = {(rating.picture, rating.version): rating.score for rating in self.store.ratings(participant)}
        trials = [{"id": trial, "score": scores.get(key)} for trial, key in self.trials(participant).items()]
        return {"participant": participant, "words": list(WORDS.values()), "trials": trials}

    def rate(self, participant: str, trial: str, score: int) -> None:
        self.store.rate(Rating(participant, *self.find(participant, trial), score))

    def results(self) -> dict[str, Any]:
        """Mean opinion scores per model, and per model and image, of what is in the study now; the best first."""
        versions = self.stimuli.versions
        known = [each for each in self.store.ratings() if each.version in versions]
        ranking = sorted(by(known, "version").items(), key=lambda item: -item[1].mean)
        pictures: dict[str, dict[str, Any]] = defaultdict(dict)
        for version in versions:
            for picture, opinion in by([each for each in known if each.version == version], "picture").items():
                pictures[picture][version] = asdict(opinion)
        return {
            "scale": self.scale,
            "interval": INTERVAL,
            "observers": len({rating.participant for rating in known}),
            "ratings": len(known),
            "models": [{"model": version, **asdict(opinion)} for version, opinion in ranking],
            "pictures": [{"picture": name, "models": pictures[name]} for name in sorted(pictures)],
        }

    def _hash(self, *parts: str) -> str:
        message = json.dumps([self.scale, *parts]).encode()
        return hmac.new(self.store.secret, message, hashlib.sha256).hexdigest()


def by(ratings: list[Rating], name: str) -> dict[str, MeanOpinionScore]:
    """Mean opinion scores of ratings grouped by one of their fields."""
    ordered = sorted(ratings, key=lambda rating: str(getattr(rating, name)))
    return {
        key: mean_opinion_score(list(group))
        for key, group in groupby(ordered, lambda rating: str(getattr(rating, name)))
    }


def apart(keys: list[Key], order: random.Random) -> list[Key]:
    """All keys shuffled; with two or more images, none comes twice in succession, as BT.500 requires."""
    left: dict[str, list[Key]] = defaultdict(list)
    for key in order.sample(keys, len(keys)):
        left[key[0]].append(key)
    shown: list[Key] = []
    while left:
        last = shown[-1][0] if shown else None
        most = max(map(len, left.values()))
        # An image with the most versions left, so that the end is not all versions of one image.
        fitting = [name for name in left if name != last and len(left[name]) == most] or [n for n in left if n != last]
        name = order.choice(fitting or list(left))
        shown.append(left[name].pop())
        if not left[name]:
            del left[name]
    return shown
