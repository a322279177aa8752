"""On the authors' own weights: what guitars, strings, drums and ensembles play comes out."""

import numpy as np
import pytest

from models.mt3.player import Transcriber
from tests.models.mt3 import music
from tests.models.mt3.flaxes import not_flaxes


@pytest.fixture(scope="module")
def heard(released, played, tmp_path_factory) -> dict[str, dict[music.Rendition, music.Heard]]:
    """All pieces but the pianos' by each variant, decoded as the original does."""
    pieces = {piece: notes for piece, notes in played.items() if not music.is_piano(notes)}
    sounds = music.renditions(pieces, tmp_path_factory.mktemp("sounds"))
    return {variant: music.listen(Transcriber(released, "mt3", variant), sounds) for variant in music.VARIANTS}


@pytest.fixture(scope="module")
def scores(heard, played) -> music.Table:
    """The means, which count."""
    tables = music.scores_of(heard, played)
    print(music.report(tables, played))
    return music.mean(tables.values())


def test_every_variant_writes_down_what_was_played(scores, played):
    assert len(scores) == 6 and music.missed(scores, played) == []


def test_the_card_tells_so(scores, played):
    """But for what another processor rounds otherwise."""
    for piece, by_variant in scores.items():
        notes, told = music.on_card()[piece]
        found = [[by_variant[variant][measure] for measure in music.measures(played[piece])]
                 for variant in music.VARIANTS]
        assert notes == len(played[piece])
        np.testing.assert_allclose(told, found, atol=0.05, err_msg=piece)


def test_fp32_writes_flaxes_own_notes_of_every_piece(released, heard, tmp_path):
    loud = {piece: found for (piece, loudness), found in heard["fp32"].items() if loudness == 1}
    assert not_flaxes(released, tmp_path, loud) == []
