"""Stage download: the CIFAR-10 binary archive, or scikit-learn's handwritten digits -> data/raw."""

from pathlib import Path

from ablation.common.errors import run


def main() -> None:
    from ablation.common.files import replacing
    from ablation.data.archive import check_md5, open_archive, unpack
    from ablation.data.params import DownloadParams
    from ablation.data.records import read_test, read_train

    params = DownloadParams.read("configs/download.yaml")
    raw = Path("data/raw")
    with replacing(raw) as folder:
        if params.source == "digits":
            from ablation.data.digits import write_digits  # imports scikit-learn, so on this path only

            write_digits(folder)
        else:
            with open_archive(params.url, folder) as archive:
                check_md5(archive, params.url, params.md5)
                unpack(archive, params.url, folder)
    what = "handwritten digits of scikit-learn, NOT CIFAR-10" if params.source == "digits" else f"from {params.url}"
    print(f"{raw}: {len(read_train(raw)[1]):,} training and {len(read_test(raw)[1]):,} test images: {what}")


if __name__ == "__main__":
    run(main)
