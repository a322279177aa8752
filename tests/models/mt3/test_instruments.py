"""On the authors' own weights: what guitars, strings, drums and ensembles play comes out."""

import pytest

from models.mt3.player import Transcriber
from tests.models.mt3 import music
from tests.models.mt3.flaxes import not_flaxes
from tests.proven import skip_where_proven


@pytest.fixture(scope="module")
def heard(released, played, tmp_path_factory) -> dict[str, dict[music.Rendition, music.Heard]]:
    """All pieces but the pianos' by each variant, decoded as the original does."""
    skip_where_proven("mt3")
    pieces = {piece: notes for piece, notes in played.items() if not music.is_piano(notes)}
    sounds = music.renditions(pieces, tmp_path_factory.mktemp("sounds"))
    return {variant: music.listen(Transcriber(released, "mt3", variant), sounds) for variant in music.VARIANTS}


def test_every_variant_writes_down_what_was_played(scores, played):
    assert len(scores) == 6 and music.missed(scores, played) == []


def test_the_card_tells_so(scores, played):
    music.hold_to_card(scores, played)


def test_fp32_writes_flaxes_own_notes_of_every_piece(released, heard, tmp_path):
    loud = {piece: found for (piece, loudness), found in heard["fp32"].items() if loudness == 1}
    assert not_flaxes(released, tmp_path, loud) == []
