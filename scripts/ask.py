"""Stage ask, in the model's own toolchain: what the original answers, where the export is made in another.

The model's ask.py writes reference.npz: what was fed to the original and what it returned, as
`<component>/<case>/<port>`, for composed components too.
"""

from scripts import job


def ask(task: job.Job) -> None:
    task.module("ask").ask(task.inputs["fetch"], task.out, task.recipe)
    if not (task.out / "reference.npz").is_file():
        raise job.Refusal(f"models/{task.model}/ask.py must write reference.npz; it is missing")


if __name__ == "__main__":
    job.run(ask)
