"""What the original is asked, and how."""

import json

from tests.conftest import run
from tests.models.mt3.conftest import HERE


def test_any_draft_settles_on_the_tokens_of_the_originals_loop(cast):
    """In float32 and, where no two tokens are as likely, in float64."""
    done = run("scripts/in", "jax", "python", HERE / "ask_settled.py", cast.parent / "fetch")
    assert done.returncode == 0, done.stderr[-2000:]
    written, settled, exactly = json.loads(done.stdout)
    assert settled == written and exactly == written and len(set(written[0])) > 3
