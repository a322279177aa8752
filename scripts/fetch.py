"""Stage fetch: the source, in the upstream's own file layout, into this stage's folder.

`seeded` and `tiny` are written by the model's seeded.py from the hyperparameters in the recipe; `custom` is a copy of
the files that make up the checkpoint that CHECKPOINT names, `released` of the authors' files, proven by then.
"""

from scripts import job, source


def fetch(task: job.Job) -> None:
    if task.weights in ("custom", "released"):
        assert task.checkpoint is not None
        job.progress("copying {}".format(task.checkpoint))
        source.copy(task.checkpoint, task.recipe["sources"]["custom"], task.out)
    else:
        job.progress("writing {} weights in the upstream's layout".format(task.weights))
        task.module("seeded").write(task.out, task.recipe["sources"][task.weights])


if __name__ == "__main__":
    job.run(fetch)
