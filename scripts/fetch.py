"""Stage fetch: the source, in the upstream's own file layout, into this stage's folder.

`seeded` and `tiny` are written by the model's seeded.py from the hyperparameters in
the recipe; `custom` is a copy of the source's files in the folder that CHECKPOINT names.
"""

import shutil

from scripts import job


def fetch(task: job.Job) -> None:
    if task.weights == "custom":
        assert task.checkpoint is not None
        job.progress("copying {}".format(task.checkpoint))
        for file in task.module("seeded").source_files(task.checkpoint):
            shutil.copyfile(str(file), str(task.out / file.name))
    else:
        job.progress("writing {} weights in the upstream's layout".format(task.weights))
        task.module("seeded").write(task.out, task.recipe["sources"][task.weights])


if __name__ == "__main__":
    job.run(fetch)
