"""Stage normalize: data/raw -> data/splits (train, val, test and the train images' statistics), data/samples.png."""

from pathlib import Path

from ablation.common.errors import run


def main() -> None:
    import torch

    from ablation.common.files import replacing, write_file
    from ablation.data.params import NormalizeParams
    from ablation.data.records import read_classes, read_test, read_train
    from ablation.data.samples import draw_samples
    from ablation.data.splits import Statistics, write_split, write_statistics
    from ablation.data.stratify import channel_statistics, check_classes, split_indices

    params = NormalizeParams.read("configs/normalize.yaml")
    raw, splits = Path("data/raw"), Path("data/splits")
    classes = read_classes(raw)
    images, labels = read_train(raw)
    train, val = split_indices(labels, params.train_size, params.val_size, params.split_seed)
    parts = {
        "train": (images[train], labels[train]),
        "val": (images[val], labels[val]),
        "test": read_test(raw),
    }
    for name, part in parts.items():
        check_classes(part[1], name, classes)
    statistics = Statistics(*channel_statistics(parts["train"][0]), classes)
    with replacing(splits) as folder:
        for name, part in parts.items():
            write_split(folder / f"{name}.safetensors", *(torch.from_numpy(array) for array in part))
        write_statistics(folder / "statistics.json", statistics, {name: len(part[1]) for name, part in parts.items()})
    samples = draw_samples(*parts["train"], classes)
    write_file(Path("data/samples.png"), lambda file: samples.save(file, "png"))
    print(f"{splits}: " + ", ".join(f"{len(part[1]):,} {name}" for name, part in parts.items()) + " images")


if __name__ == "__main__":
    run(main)
