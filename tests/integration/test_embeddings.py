"""Likeness by a real sentence-embedding model, which a package carries."""

from __future__ import annotations

import pytest

from jobs import process
from tests.encoders import MODEL, cross_encoder
from tests.groups import PRETENDERS, RIGHT, WRONG, ballot
from ttrl.config import Config
from ttrl.rewards import REWARDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def embeddings():
    from ttrl.meaning.embeddings import Embeddings

    return Embeddings(str(MODEL), device="cpu")


def test_synonyms_are_alike_and_other_subjects_not(embeddings):
    said = ["The firm dismissed him.", "He was fired by the company.", "Bananas ripen quickly."]
    ((_, synonym, stranger), *_) = embeddings.compare(said)
    assert synonym > embeddings.alike > stranger
    assert embeddings.compare(said) == embeddings.compare(said), "from what is remembered"
    assert embeddings.compare([]) == []


@pytest.mark.parametrize("reward", ["centrality", "consensus", "reference"])
@pytest.mark.parametrize("pretender", PRETENDERS)
def test_pretending_never_wins(embeddings, reward, pretender):
    texts = [*RIGHT, *WRONG, PRETENDERS[pretender]]
    worth = REWARDS[reward](ballot(texts, embeddings, references=RIGHT[:1]))
    assert worth[-1] < max(worth[:4]) or not any(worth)  # where nobody has a majority


def test_entailment_is_the_likeliest_label_of_an_nli_model(tmp_path):
    import torch

    from ttrl.meaning.embeddings import Pairs

    model, tokenizer = cross_encoder(tmp_path, ("contradiction", "entailment", "neutral"))
    judge = Pairs(str(tmp_path), most=100, device="cpu")
    texts = ["a kettle", "the pot", "rain", "it rains", "no"]
    pairs = [(one, other) for one in texts for other in texts if one != other]
    with torch.no_grad():
        expected = [
            int(model(**tokenizer(f"q {one}", f"q {other}", return_tensors="pt")).logits.argmax())
            for one, other in pairs
        ]
    assert judge.follows("q", pairs) == [label == 1 for label in expected]
    long = "word " * 70
    assert judge.follows("q", [(long, "rain"), ("rain", "rain")])[0] is None, "it would be cut"
    assert judge.follows(long, pairs)[0] is not None, "without the question there is room"


def test_one_label_is_a_likeness_and_labels_without_entailment_are_refused(tmp_path):
    from ttrl.meaning.embeddings import Pairs

    cross_encoder(tmp_path / "one", ("score",))
    for alike, same in ((1e-9, True), (1.0, False)):
        judge = Pairs(str(tmp_path / "one"), most=100, alike=alike, device="cpu")
        assert judge.same("", [("a kettle", "the pot")]) == [same]
    cross_encoder(tmp_path / "other", ("good", "bad"))
    config = Config(meaning={"by": "pairs", "model": str(tmp_path / "other")})
    with pytest.raises(process.MeaningRefused, match="none of its labels is entailment: good, bad"):
        process.reader_for(config)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(process.MeaningRefused, match=r"meaning\.model .*none"):
        process.reader_for(Config(meaning={"model": str(tmp_path / "none")}))
    made = process.reader_for(Config(meaning={"model": str(MODEL)}))
    assert "sentence embeddings" in made.likeness.words
