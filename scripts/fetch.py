"""Stage fetch: the source, in the upstream's own file layout, into this stage's folder.

`seeded` and `tiny` are written by the model's seeded.py from the hyperparameters in the recipe; `bundled` is a copy of
what lies in the model's folder source/, `custom` of the files that make up the checkpoint that CHECKPOINT names,
`released` of the authors' files, proven by then.
"""

from scripts import job, source


def fetch(task: job.Job) -> None:
    if task.checkpoint:
        job.progress("copying {}".format(task.checkpoint))
        source.copy(task.checkpoint, task.recipe["sources"]["custom"], task.out)
    else:
        job.progress("writing {} weights in the upstream's layout".format(task.weights))
        task.module("seeded").write(task.out, task.recipe["sources"][task.weights])


if __name__ == "__main__":
    job.run(fetch)
