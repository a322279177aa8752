"""What VampNet's player promises: a recording in, a vamp on it out, as long and as loud.

What hears or makes sound loud runs in the player's toolchain, which alone has SciPy.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.vampnet import chunks, picture, player
from models.vampnet.inputs import COARSE, CODEBOOKS, HOP, RATE, VOCABULARY
from models.vampnet.player import Settings, VampNet
from scripts.job import REFUSED, Refusal
from scripts.seeded import seeded_uniform, seeded_unit
from tests.conftest import ROOT, made, run

HERE = Path(__file__).resolve().parent
FEW = {"steps": 2}
FLAGS = ("--weights", "tiny", "--steps", "2")
SAMPLE = 1 / 32768  # of 16 bits


def noise(samples: int, name: str = "player") -> np.ndarray:
    return 0.3 * seeded_uniform(name, (samples,))


def seeded_codes(frames: int) -> np.ndarray:
    return (VOCABULARY * seeded_unit("player/codes", (CODEBOOKS, frames))).astype(np.int64)


@pytest.fixture(scope="session")
def loop(golden: Path) -> np.ndarray:
    """Two seconds of music at 44.1 kHz."""
    return soundfile.read(golden / "data/example.wav", dtype="float32")[0][44100:132300]


@pytest.fixture(scope="module")
def processed(cast: Path, loop: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What comes out of VampNet.process by the case's name, and what was said where it was refused."""
    folder = tmp_path_factory.mktemp("processed")
    sounds = {
        "loop": loop,
        "quiet": 0.01 * loop,
        "stereo": np.stack([loop[::2], np.zeros_like(loop[::2])], 1).astype(np.float64),
        "mixed": loop[::2] / 2,
        "clip": loop[:441],
        "one": loop[:1],
        "too short": loop[:1],
        "silence": np.zeros(RATE, np.float32),
        "clipping": 40 * loop,
        "not a number": np.where(np.arange(RATE) == 44000, np.nan, noise(RATE)),
        "infinite": np.where(np.arange(RATE) == 44000, 1e300, noise(RATE).astype(np.float64)),
        "empty": np.zeros(0, np.float32),
        "cube": np.zeros((2, 2, 2), np.float32),
        "lying": np.zeros((2, RATE), np.float32),
        "integers": np.zeros(RATE, np.int16),
    }
    rates = {"stereo": 22050, "mixed": 22050, "too short": 192000}
    cases = {name: (name, rates.get(name, RATE), FEW) for name in sounds}
    cases |= {
        "again": ("loop", RATE, FEW),
        "another seed": ("loop", RATE, {**FEW, "seed": 1}),
        "all kept": ("loop", RATE, {**FEW, "periodic_prompt": 1, "upper_codebook_mask": CODEBOOKS}),
        "no rate": ("loop", 0, FEW),
        "hot": ("loop", RATE, {"temperature": 1e9}),
    }
    np.savez(folder / "sounds.npz", **sounds)
    (folder / "cases.json").write_text(json.dumps(cases))
    done = run("scripts/in", "player", "python", HERE / "process.py", cast, folder / "sounds.npz",
               folder / "cases.json", folder / "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as out:
        return dict(out)


def played(*words: str | Path) -> str:
    """What the command prints, on the tiny artifacts in the player's toolchain; the test fails where it does."""
    done = run("scripts/in", "player", "python", "-m", "models.vampnet.player", *FLAGS, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


# The music that comes out


def test_same_seed_same_music_another_seed_other_music(processed):
    np.testing.assert_array_equal(processed["again"], processed["loop"])
    assert np.abs(processed["another seed"] - processed["loop"]).max() > 0.01


@pytest.mark.parametrize(("name", "samples"), [("loop", 88200), ("quiet", 88200), ("stereo", 88200), ("clip", 441),
                                               ("one", 1), ("silence", 44100), ("clipping", 88200)])
def test_a_vamp_is_as_long_as_the_recording_and_never_beyond_full_scale(processed, name, samples):
    assert processed[name].shape == (samples,) and processed[name].dtype == np.float32
    assert np.isfinite(processed[name]).all() and np.abs(processed[name]).max() <= 1 + 1e-6


def test_channels_are_mixed_and_resampled(processed):
    np.testing.assert_array_equal(processed["stereo"], processed["mixed"])
    assert processed["stereo/codes"].shape == processed["loop/codes"].shape == (CODEBOOKS, 115)


def test_a_recording_has_the_same_codes_however_loud_it_is_and_its_vamp_is_as_loud(processed):
    """Of float32 noise; 40 dB quieter music makes a vamp 40 dB quieter."""
    assert (processed["quiet/codes"] == processed["loop/codes"]).mean() > 0.99
    assert (processed["clipping/codes"] == processed["loop/codes"]).mean() > 0.99
    ratio = np.sqrt((processed["quiet"] ** 2).mean() / (processed["loop"] ** 2).mean())
    assert 0.008 < ratio < 0.0125


def test_silence_stays_next_to_silent(processed):
    assert np.sqrt((processed["silence"] ** 2).mean()) < 1e-3


def test_where_all_is_kept_what_is_heard_is_the_codecs(processed, cast):
    """Its gain aside, sample by sample; and with the default prompt it's another sound."""
    through = VampNet(cast).decode(processed["loop/codes"])[:88200]

    def off(found: np.ndarray) -> float:
        return float(np.abs(found * np.abs(through).max() / np.abs(found).max() - through).max())

    assert off(processed["all kept"]) < 1e-4 < 0.1 < off(processed["loop"])


@pytest.mark.parametrize(("name", "said"), [
    ("not a number", "expected sound, found what are no numbers"),
    ("infinite", "expected sound, found what are no numbers"),
    ("empty", r"found float32 of shape \[0\]"),
    ("cube", r"found float32 of shape \[2, 2, 2\]"),
    ("lying", "transpose it"),
    ("integers", "expected floats of shape"),
    ("too short", "found less than a sample"),
    ("no rate", "expected samples a second, found 0"),
    ("hot", "TEMPERATURE=1000000000.0: expected 0 to 100"),
])
def test_what_is_no_recording_is_refused(processed, name, said):
    assert re.search(said, str(processed[name]))


# Codes


def test_kept_codes_stay_and_all_others_are_codes(cast):
    codes = seeded_codes(600)
    mask = player.prompt(600, Settings(dropout=0.1, prefix=1, suffix=1))
    vamped = VampNet(cast).vamp(codes, mask, steps=2)
    np.testing.assert_array_equal(vamped[mask == 0], codes[mask == 0])
    assert vamped.dtype == np.int64 and vamped.min() >= 0 and vamped.max() < VOCABULARY
    assert (vamped[mask == 1] != codes[mask == 1]).mean() > 0.9


def test_nothing_is_written_where_nothing_is_masked(cast):
    codes = seeded_codes(200)
    np.testing.assert_array_equal(VampNet(cast).vamp(codes, np.zeros_like(codes), steps=2), codes)


class Recorder:
    """Stands in for a sampler: writes nothing, and remembers what it was given."""

    def __init__(self):
        self.given: list[dict[str, np.ndarray]] = []

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given.append(given)
        return [given["codes"]]


@pytest.mark.parametrize(("asked", "expected"), [
    ({}, (36, 1, 1, 1)),
    ({"steps": 5, "temperature": 0.5, "typical_mass": 0.25}, (5, 0.5, 1, 0.25)),
    ({"temperature": 0}, (36, 1, -1, 1)),
])
def test_samplers_are_told_what_was_asked_and_the_fine_one_what_upstream_tells_it(cast, asked, expected):
    vampnet, codes = VampNet(cast), seeded_codes(600)
    coarse, fine = Recorder(), Recorder()
    vampnet.sessions |= {"coarse-sampler": coarse, "c2f-sampler": fine}
    vampnet.vamp(codes, np.ones_like(codes), seed=3, **asked)
    names = ("steps", "temperature", "sample_cutoff", "typical_mass")
    for sampler, name, written, told in ((coarse, "coarse", COARSE, expected), (fine, "fine", 10, (2, 1, 1, 1))):
        assert len(sampler.given) > 1
        for number, given in enumerate(sampler.given):
            assert tuple(given[name].item() for name in names) == told
            shape = (told[0], 2, 1, written, given["codes"].shape[2])
            np.testing.assert_array_equal(given["uniforms"], seeded_unit(f"vampnet/play/3/{name}/{number}", shape))


def test_what_is_told_adds_up_to_the_recording(cast):
    done: dict[str, float] = {}
    codes = seeded_codes(1000)
    VampNet(cast).vamp(codes, np.ones_like(codes), steps=1,
                       told=lambda what, seconds: done.update({what: done.get(what, 0) + seconds}))
    assert done["coarse codes written"] == pytest.approx(1000 * HOP / RATE)
    filled = chunks.spans(1000, chunks.FINE_CHUNK, chunks.FINE_OVERLAP)[-1][0] + chunks.FINE_CHUNK
    assert done["fine codes written"] == pytest.approx(filled * HOP / RATE)


def test_what_are_no_codes_is_refused(cast):
    vampnet, codes = VampNet(cast), seeded_codes(10)
    for wrong in (codes[:4], codes[None], codes.astype(float), codes[:, :0]):
        with pytest.raises(Refusal, match="codes: expected integers of shape"):
            vampnet.decode(wrong)
    for wrong in (codes - 1024, np.full_like(codes, VOCABULARY)):
        with pytest.raises(Refusal, match="codes: expected 0 to 1023"):
            vampnet.vamp(wrong, np.ones_like(codes))
    for wrong in (np.ones((CODEBOOKS, 9)), np.full_like(codes, 2), codes * np.nan):
        with pytest.raises(Refusal, match="mask: expected 0 or 1"):
            vampnet.vamp(codes, wrong)


def test_artifacts_that_are_not_there_are_named(tmp_path):
    with pytest.raises(Refusal, match="expected an artifact, found none"):
        VampNet(tmp_path)


# The command


def test_weights_that_are_not_those_an_artifact_names_are_refused(cast, tmp_path):
    for path in cast.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "vampnet-coarse-int8.weights"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"coarse-int8\.weights: expected the weights that vampnet-coarse-sampler"):
        VampNet(tmp_path)


@pytest.mark.parametrize(("link", "said"), [(os.link, "one of 2 hard links"), (os.symlink, "a symbolic link")])
def test_weights_that_are_links_are_said_to_be_and_the_remedy_helps(cast, tmp_path, link, said):
    """As in a tree that was copied by links, or in a cache that has names in one place and bytes in another."""
    for folder in ("blobs", "linked"):
        (tmp_path / folder).mkdir()
    for path in cast.iterdir():
        shutil.copyfile(path, tmp_path / "blobs" / path.name)
        link(tmp_path / "blobs" / path.name, tmp_path / "linked" / path.name)
    for _ in range(2):  # the weights of the two samplers
        with pytest.raises(Refusal, match=said) as refusal:
            VampNet(tmp_path / "linked")
        subprocess.run(str(refusal.value).partition("copy it with ")[2], shell=True, check=True)
    VampNet(tmp_path / "linked")


def test_make_plays_a_recording_and_draws_it(cast, loop, tmp_path):
    soundfile.write(tmp_path / "loop.wav", loop, RATE)
    told = made("play", "MODEL=vampnet", "WEIGHTS=tiny", f"IN={tmp_path}/loop.wav", f"OUT={tmp_path}/vamp.wav",
                "STEPS=2", "PERIODIC=5", "UPPER=4", "PREFIX=0.5", "SUFFIX=0.25", "DROPOUT=0.1", "TYPICAL=0.5", "SEED=3",
                "PLOT=1")
    for artifact in ("coarse-sampler-int8", "c2f-sampler-int8", "encoder-fp32", "decoder-fp16"):
        assert f"vampnet-{artifact}.onnx (sha256 " in told
    assert "vamping on 2.0 seconds" in told and "tiny weights are an untrained stand-in" in told
    info = soundfile.info(tmp_path / "vamp.wav")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (88200, RATE, 1, "PCM_16")
    assert (tmp_path / "vamp.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"loop.wav", "vamp.wav", "vamp.png"}


def test_a_file_makes_the_music_that_its_array_makes(processed, loop, tmp_path):
    soundfile.write(tmp_path / "loop.wav", loop, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([loop[::2], 0 * loop[::2]], 1), 22050, subtype="FLOAT")
    for given, out, name in (("loop.wav", "vamp.flac", "loop"), ("stereo.wav", "vamp.wav", "stereo")):
        played(tmp_path / given, tmp_path / out)
        found, rate = soundfile.read(tmp_path / out)
        assert rate == RATE
        np.testing.assert_allclose(found, processed[name], rtol=0, atol=SAMPLE)


def test_a_picture_alone_writes_no_sound(loop, cast, tmp_path):
    soundfile.write(tmp_path / "$x$.wav", loop, RATE)
    played(tmp_path / "$x$.wav", tmp_path / "vamp.png")
    assert {path.name for path in tmp_path.iterdir()} == {"$x$.wav", "vamp.png"}


PEAK = """
import resource, sys
from models.vampnet import player
status = player.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def test_hours_take_the_memory_of_half_a_minute(cast, tmp_path):
    """A minute and a half more would be 16 MB of float32 at 44.1 kHz, each time that they lay in memory."""
    peaks = []
    for parts in (1, 4):
        with soundfile.SoundFile(tmp_path / "long.flac", "w", RATE, 1) as file:
            for part in range(parts):
                file.write(noise(30 * RATE, f"player/{part}"))
        done = run("scripts/in", "player", "python", "-c", PEAK, "--weights", "tiny", "--steps", "1",
                   tmp_path / "long.flac", tmp_path / "vamp.flac")
        assert done.returncode == 0, done.stderr
        assert soundfile.info(tmp_path / "vamp.flac").frames == parts * 30 * RATE
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 8


@pytest.mark.parametrize(("words", "said"), [
    (["none.wav", "vamp.wav"], "expected a recording (WAV, FLAC, Ogg, MP3), found none"),
    (["text.wav", "vamp.wav"], "can't be read"),
    (["still.wav", "vamp.wav"], "seconds of silence"),
    (["noise.wav", "vamp.mp3"], "expected a name that ends in .wav, .flac or .png"),
    (["noise.wav", "noise.wav"], "expected another file than IN"),
    (["noise.wav", "away/vamp.wav"], "found none: make it first"),
    (["noise.wav", "vamp.wav", "--variant", "int2"], "name a variant that is there"),
    (["noise.wav", "vamp.wav", "--periodic", "-1"], "PERIODIC=-1: expected 0 to 1000000"),
    (["noise.wav", "vamp.wav", "--upper", "15"], "UPPER=15: expected 0 to 14"),
    (["noise.wav", "vamp.wav", "--prefix", "-0.5"], "PREFIX=-0.5: expected 0 to 86400"),
    (["noise.wav", "vamp.wav", "--suffix", "nan"], "SUFFIX=nan: expected 0 to 86400"),
    (["noise.wav", "vamp.wav", "--dropout", "1.5"], "DROPOUT=1.5: expected 0 to 1"),
    (["noise.wav", "vamp.wav", "--steps", "0"], "STEPS=0: expected 1 to 1000"),
    (["noise.wav", "vamp.wav", "--temperature", "inf"], "TEMPERATURE=inf: expected 0 to 100"),
    (["noise.wav", "vamp.wav", "--typical", "-0.1"], "TYPICAL=-0.1: expected 0 to 1"),
    (["noise.wav", "vamp.wav", "--seed", "some"], "seed: invalid int value"),
    (["noise.wav", "vamp.wav", "--decode", "beam"], "unrecognized arguments: --decode"),
])
def test_a_mistake_is_one_line_and_writes_nothing(cast, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(ROOT)
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "still.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "noise.wav", noise(RATE), RATE)
    before = sorted(tmp_path.iterdir())
    given, out, *rest = words
    assert player.main(["--weights", "tiny", *rest, "--", str(tmp_path / given), str(tmp_path / out)]) == REFUSED
    last = capsys.readouterr().err.strip().splitlines()
    assert len(last) == 1 and said in last[0]
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_found_on_the_way_leaves_nothing_half_written(cast, tmp_path):
    soundfile.write(tmp_path / "broken.wav", np.append(noise(5 * RATE), np.nan), RATE, subtype="FLOAT")
    done = run("scripts/in", "player", "python", "-m", "models.vampnet.player", *FLAGS, tmp_path / "broken.wav",
               tmp_path / "vamp.wav")
    assert done.returncode == REFUSED and "found what are no numbers after 5.00 seconds" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.wav"]


# The picture


@pytest.mark.parametrize("seconds", [0.00001, 0.01, 2, 61.7])
def test_recordings_of_every_length_are_drawn_as_large(tmp_path, seconds):
    samples = max(1, round(seconds * RATE))
    mask = player.prompt(-(-samples // HOP), Settings())
    shown = noise(min(samples, picture.SECONDS * RATE))
    picture.draw(tmp_path / "vamp.png", shown, mask, 0 * shown, "a $ b_{c}.wav", "subtitle")
    png = (tmp_path / "vamp.png").read_bytes()
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20]) == picture.WIDTH * 120
    assert 600 < int.from_bytes(png[20:24]) < 1200


@pytest.mark.parametrize("pitch", [100, 1000, 10000])
def test_a_tone_is_drawn_at_its_pitch(pitch):
    spectrum = picture.spectrogram(np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE).astype(np.float32))
    row = (picture.ROWS - 1) * np.log(pitch / picture.LOWEST) / np.log(picture.HIGHEST / picture.LOWEST)
    assert spectrum.shape == (picture.ROWS, picture.COLUMNS)
    assert abs(spectrum[:, picture.COLUMNS // 2].argmax() - row) < 2
