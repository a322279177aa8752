"""Stage fetch: the source, in the upstream's own file layout, into this stage's folder.

`seeded` and `tiny` are written by the model's seeded.py from the hyperparameters in
the recipe; `custom` is a copy of the files that the recipe names, in CHECKPOINT's folder.
"""

import shutil

from scripts import job


def fetch(task: job.Job) -> None:
    if task.weights == "custom":
        assert task.checkpoint is not None
        job.progress("copying {}".format(task.checkpoint))
        names = task.recipe["sources"]["custom"]["files"]
        missing = [name for name in names if not (task.checkpoint / name).is_file()]
        if missing:
            raise job.Refusal("{} is no {} checkpoint folder: expected {}, missing {}".format(
                task.checkpoint, task.model, ", ".join(names), ", ".join(missing)))
        for name in names:
            shutil.copyfile(str(task.checkpoint / name), str(task.out / name))
    else:
        job.progress("writing {} weights in the upstream's layout".format(task.weights))
        task.module("seeded").write(task.out, task.recipe["sources"][task.weights])


if __name__ == "__main__":
    job.run(fetch)
