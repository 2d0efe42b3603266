"""The study over HTTP: blind, in an order of one's own, kept, and summed up as it should be."""

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import scipy.stats
import skimage.data
from PIL import Image

from app.errors import StartupError, StudyFullError
from app.inference.zoo import load_zoo
from app.study.comparison import apart
from app.study.ratings import Rating, RatingStore, mean_opinion_score, t_quantile
from harness.pictures import decoded, encode
from harness.server import QUICK, Server, quick_server
from harness.zoo import small_zoo

VERSIONS = {spec.name for spec in load_zoo(small_zoo(*QUICK)) if spec.scale == 4} | {"original"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures; one has a side that the scale does not divide."""
    folder = tmp_path_factory.mktemp("study")
    Image.fromarray(skimage.data.chelsea()[60:188, 100:231]).save(folder / "cat.png")
    Image.fromarray(skimage.data.coffee()[100:200, 100:220]).save(folder / "coffee.jpg", quality=95)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def study(pictures: Path) -> Iterator[Server]:
    with quick_server(study=str(pictures), study_database=str(pictures / "ratings.db")) as server:
        yield server


@pytest.fixture(scope="module")
def client(study: Server) -> Iterator[httpx.Client]:
    with study.client() as client:
        yield client


def begin(client: httpx.Client) -> tuple[str, list[str]]:
    """A new participant and the ids of the trials in order."""
    session = client.post("/study/participants").json()
    assert session["words"] == ["Bad", "Poor", "Fair", "Good", "Excellent"]
    assert all(trial["score"] is None for trial in session["trials"])
    return session["participant"], [trial["id"] for trial in session["trials"]]


def look(client: httpx.Client, participant: str, trial: str) -> httpx.Response:
    return client.get(f"/study/participants/{participant}/{trial}.png")


def test_without_the_setting_there_is_no_study(server: Server) -> None:
    with server.client() as client:
        for path in ("/study", "/study/results", "/study/participants"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_every_version_of_every_picture_is_shown_once_and_blind(client: httpx.Client) -> None:
    participant, trials = begin(client)
    assert len(trials) == len(set(trials)) == 2 * len(VERSIONS)
    answers = [look(client, participant, trial) for trial in trials]
    told = repr([dict(answer.headers) for answer in answers]) + repr(trials)
    assert not [name for name in (*VERSIONS, "cat", "coffee") if name in told.lower()]
    sizes = Counter(decoded(answer.content).shape for answer in answers)
    assert sizes == {(128, 128, 3): len(VERSIONS), (100, 120, 3): len(VERSIONS)}  # cut to multiples of the scale
    assert len({answer.content for answer in answers}) == len(answers)


def test_a_version_is_what_the_service_makes_of_the_reduced_picture(client: httpx.Client, pictures: Path) -> None:
    with Image.open(pictures / "cat.png") as image:
        original = image.crop((1, 0, 129, 128))
    reduced = encode(np.asarray(original.resize((32, 32), Image.Resampling.BICUBIC)))
    served = [
        client.post("/upscale", params={"model": name, "format": "png"}, content=reduced).content
        for name in sorted(VERSIONS - {"original"})
    ]
    expected = {decoded(each).tobytes() for each in served} | {np.asarray(original).tobytes()}
    participant, trials = begin(client)
    shown = {decoded(look(client, participant, trial).content).tobytes() for trial in trials}
    assert expected <= shown


def test_orders_differ_and_stay(client: httpx.Client) -> None:
    def order(participant: str, trials: list[str]) -> list[bytes]:
        return [look(client, participant, trial).content for trial in trials]

    (first, trials), (second, others) = begin(client), begin(client)
    assert not set(trials) & set(others), "an id must not tell two participants the same"
    assert order(first, trials) != order(second, others)
    again = client.get(f"/study/participants/{first}").json()
    assert [trial["id"] for trial in again["trials"]] == trials


@pytest.mark.parametrize(("pictures", "versions"), [(2, 2), (2, 7), (13, 4)])
def test_a_picture_does_not_follow_itself(pictures: int, versions: int) -> None:
    keys = [(f"p{p}", f"v{v}") for p in range(pictures) for v in range(versions)]
    orders = [apart(keys, random.Random(seed)) for seed in range(50)]
    for order in orders:
        assert sorted(order) == sorted(keys)
        assert all(one[0] != next[0] for one, next in itertools.pairwise(order))
    assert len({tuple(order) for order in orders}) > min(20, math.factorial(versions))


def test_ratings_are_kept_changed_and_summed_up(pictures: Path) -> None:
    with quick_server(study=str(pictures), study_database=str(pictures / "sums.db")) as server:
        with server.client() as client:
            originals = {}
            for scores in ((5, 2), (4, 1), (4, 3)):
                participant, trials = begin(client)
                for trial in trials:
                    assert rate(client, participant, trial, scores[1]).status_code == 204
                for trial in trials:  # told apart here by what they look like: the original is its own source
                    originals[participant] = scores
                    with Image.open(pictures / "cat.png") as image:
                        expected = np.asarray(image.crop((1, 0, 129, 128)))
                    pixels = decoded(look(client, participant, trial).content)
                    if pixels.shape == expected.shape and (pixels == expected).all():
                        assert rate(client, participant, trial, scores[0]).status_code == 204
        with server.client() as client:
            results = client.get("/study/results").json()
    assert (results["observers"], results["ratings"]) == (3, 3 * 2 * len(VERSIONS))
    cat = next(each for each in results["pictures"] if each["picture"] == "cat.png")["models"]
    assert cat["original"]["mean"] == pytest.approx(13 / 3)
    half_width = 4.302653 / math.sqrt(3)  # t of 2 degrees of freedom, a standard deviation of 1
    assert cat["fast"] == pytest.approx({"mean": 2, "half_width": half_width, "observers": 3, "ratings": 3})
    best = results["models"][0]
    assert (best["model"], best["ratings"], best["observers"]) == ("original", 6, 3)
    assert best["mean"] == pytest.approx(statistics.fmean([3.5, 2.5, 3.5]))


def rate(client: httpx.Client, participant: str, trial: str, score: object) -> httpx.Response:
    return client.put(f"/study/participants/{participant}/{trial}", json={"score": score})


def test_ratings_outlive_the_server(pictures: Path) -> None:
    settings = {"study": str(pictures), "study_database": str(pictures / "lasting.db")}
    with quick_server(**settings) as server, server.client() as client:
        participant, trials = begin(client)
        rate(client, participant, trials[3], 4)
    with quick_server(**settings) as server, server.client() as client:
        session = client.get(f"/study/participants/{participant}").json()
    assert [trial["id"] for trial in session["trials"]] == trials
    assert [trial["score"] for trial in session["trials"]] == [None] * 3 + [4] + [None] * (len(trials) - 4)


@pytest.mark.parametrize("score", [0, 6, 3.5, "4", None])
def test_other_scores_are_refused(client: httpx.Client, score: object) -> None:
    participant, trials = begin(client)
    answer = rate(client, participant, trials[0], score)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert "score" in answer.json()["detail"]


def test_a_foreign_trial_is_unknown(client: httpx.Client) -> None:
    (first, _), (_, others) = begin(client), begin(client)
    for answer in (look(client, first, others[0]), rate(client, first, others[0], 3)):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_trial")
    assert client.get("/study/participants/mallory").status_code == 422


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_without_pictures_stops_the_start(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "study"
    if content:
        folder.mkdir()
    with pytest.raises(RuntimeError, match=r"study's folder .*study"), quick_server(study=str(folder)):
        pass


# -- opinions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 8, 11, 25, 66, 1000])
def test_the_quantile_is_students(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), abs=5e-4)


def test_the_interval_is_that_of_the_observers_means() -> None:
    scores = {"a": [5, 4, 4], "b": [3], "c": [2, 4], "d": [1, 1]}
    opinion = mean_opinion_score(
        [Rating(who, f"p{i}", "fast", s) for who, own in scores.items() for i, s in enumerate(own)]
    )
    means = [statistics.fmean(own) for own in scores.values()]
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(means), scale=scipy.stats.sem(means))
    assert opinion.mean == pytest.approx(np.mean(means))
    assert opinion.half_width == pytest.approx((high - low) / 2, rel=1e-4)
    assert (opinion.observers, opinion.ratings) == (4, 8)


def test_one_observer_has_no_interval() -> None:
    assert mean_opinion_score([Rating("a", "p", "fast", 4)]).half_width is None


def test_many_may_rate_at_once(tmp_path: Path) -> None:
    opinions = [RatingStore(tmp_path / "study.db", 4) for _ in range(4)]  # as in several processes
    assert len({each.secret for each in opinions}) == 1

    def write(who: int) -> None:
        for number in range(25):
            opinions[who].rate(Rating(f"{who:032x}", f"p{number}", "fast", 1 + number % 5))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(opinions[0].ratings()) == 100


def test_a_full_study_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.study.ratings.MAX_RATINGS", 1)
    opinions = RatingStore(tmp_path / "study.db", 4)
    opinions.rate(Rating("a", "p", "fast", 1))
    with pytest.raises(StudyFullError):
        opinions.rate(Rating("b", "p", "fast", 1))


def test_scales_are_kept_apart(tmp_path: Path) -> None:
    RatingStore(tmp_path / "study.db", 4).rate(Rating("a", "p", "fast", 1))
    assert RatingStore(tmp_path / "study.db", 2).ratings() == []


def test_a_database_that_is_none_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"not a database at all, but long enough to have a header of one hundred bytes" * 4)
    with pytest.raises(StartupError, match="database"):
        RatingStore(path, 4)
