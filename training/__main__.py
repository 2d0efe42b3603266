"""``python -m training``: train, export, import, evaluate, and what is drawn of it."""

import argparse
import sys
from pathlib import Path

from app.errors import EnlargerError
from app.inference.zoo import load_zoo
from app.settings import MODELS
from training.auto import command as auto_command
from training.checkpoint import Folders
from training.digits import command as digits_command
from training.export.importing import RANGES, UNKNOWN, Order, import_model
from training.export.publish import export
from training.export.verify import MAX_PHOTO_SEAM
from training.log import read_log
from training.pause import LONGEST, pause, resume
from training.queue import QUEUE, run_queue
from training.recipe import load_recipe
from training.rendering import command as rendering_command
from training.report.cache import Cache
from training.report.cards import write_cards
from training.report.conditions import CONDITIONS
from training.report.crops import Box
from training.report.evaluate import MEASURED_ALONE, TEST_SETS, Worsened, choose, evaluate_zoo
from training.report.evaluate_looks import Comparison, evaluate_looks, looks_table, read_rivals
from training.report.evaluate_ocr import LANGUAGES, SIZES, WAYS, Asked, evaluate_ocr, ocr_table, write_readings
from training.report.evaluate_qr import evaluate_qr
from training.report.figures import curves, draw_scatter, save_plot
from training.report.looks import load_judges
from training.report.progress import progress, progress_table
from training.report.records import (
    MEASURES,
    against_published,
    known_before,
    merge,
    read_records,
    table,
    write_markdown,
    write_records,
)
from training.report.sample import draw_crops, draw_degradations
from training.train import train


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, EnlargerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    root.add_argument("--data", type=Path, default=Path("data"), help="folder with the picture folders (default: data)")
    root.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints and logs (default: runs)")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a recipe, or go on with it")
    command.add_argument("recipes", nargs="+", metavar="RECIPE")
    command.add_argument("--vgg19", type=Path, metavar="FILE", help="VGG19's weights, which content losses need")
    command.add_argument("--teacher", type=Path, metavar="FILE", help="weights of the network that a [teacher] means")
    command.add_argument(
        "--compile", action="store_true", help="through torch.compile: slow to start, then faster on CUDA"
    )
    command.add_argument(
        "--go-on", action="store_true", help="without a checkpoint, from the exported model and the step it was at"
    )
    command.set_defaults(run=run_train)

    command = commands.add_parser("queue", help="train the recipes of a file in turns, and export each after its turn")
    command.add_argument("file", nargs="?", type=Path, default=QUEUE, metavar="FILE", help="(default: %(default)s)")
    command.add_argument("--vgg19", type=Path, metavar="FILE", help="VGG19's weights, which content losses need")
    command.add_argument("--teacher", type=Path, metavar="FILE", help="weights of the network that a [teacher] means")
    command.add_argument("--models", type=Path, default=MODELS)
    command.add_argument("--commit", action="store_true", help="commit the models after each export")
    command.set_defaults(run=run_queue_file)

    command = commands.add_parser("pause", help="stop all training within a step; returns when it stands still")
    command.add_argument("--minutes", type=float, default=LONGEST, help="it goes on then (default: %(default)s)")
    command.set_defaults(run=lambda options: pause(options.runs, options.minutes))
    command = commands.add_parser("resume", help="end a pause")
    command.set_defaults(run=lambda options: resume(options.runs))
    command = commands.add_parser("status", help="step, hours, figure and last hour's gain of every run")
    command.set_defaults(run=lambda options: print(progress_table(progress(options.runs))))

    command = commands.add_parser("export", help="write the ONNX file and its manifest entry, with metrics")
    command.add_argument("recipes", nargs="+", metavar="RECIPE")
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_export)

    command = commands.add_parser("import-model", help="take a .pth, .safetensors or .onnx of others into the zoo")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--name", required=True, help="what requests call it")
    command.add_argument("--scale", type=int, help="refuse the file if it enlarges by another factor")
    command.add_argument("--licence", default=UNKNOWN, help="of the weights, shown at /models (default: unknown)")
    command.add_argument("--source", default=UNKNOWN, help="where they come from, shown at /models (default: unknown)")
    command.add_argument("--range", type=int, choices=RANGES, help="an .onnx's white (default: found out)")
    command.add_argument(
        "--seams",
        type=float,
        default=MAX_PHOTO_SEAM,
        metavar="LEVELS",
        help="of 255, by which tiles may differ on photographs, and twice that on noise (default: %(default)s)",
    )
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_import)

    add_evaluate(commands)
    add_evaluate_qr(commands)
    add_evaluate_ocr(commands)
    digits_command.add_commands(commands)
    rendering_command.add_command(commands)
    auto_command.add_command(commands)

    command = commands.add_parser("card", help="write models' cards again from the manifest (export does it too)")
    command.add_argument("titles", nargs="*", metavar="MODEL", help="name or name-xN (default: all)")
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_card)

    command = commands.add_parser("degradations", help="draw what each degradation does to a sample")
    command.add_argument("--out", type=Path, default=Path("runs/figures/degradations.webp"), metavar="FILE")
    command.set_defaults(run=lambda options: draw_degradations(options.out))

    command = commands.add_parser("curves", help="draw losses and validation PSNR of a run's log.csv")
    command.add_argument("titles", nargs="+", metavar="RUN", help="name-xN, a folder below the runs folder")
    command.add_argument("--out", type=Path, help="folder of the pictures (default: the run's own)")
    command.set_defaults(run=run_curves)
    return root


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure models of the zoo: quality on the served path, CPU speed of the bare session",
        description="What is not measured is taken from --json's file, if that is there, and from the manifest, as far "
        "as it was measured of the very same file. The table and the plots tell all that is then known.",
    )
    command.add_argument("titles", nargs="*", metavar="MODEL", help="name or name-xN (default: all)")
    command.add_argument("--sets", nargs="+", default=list(TEST_SETS), help="folders below the data folder")
    command.add_argument("--models", type=Path, default=MODELS)
    command.add_argument("--precision", nargs="+", default=[], help="of their files (default: all that a CPU runs)")
    command.add_argument(
        "--measure", nargs="*", default=["quality", "speed"], choices=["quality", "speed"], help="(default: both)"
    )
    command.add_argument(
        "--judges",
        type=Path,
        metavar="DIR",
        help="folder with any of vgg16.ckpt, alexnet.ckpt, weights.pt (DISTS) and niqe_pris_params.npz: looks are "
        "measured too",
    )
    looks = command.add_argument_group("looks", "comparing networks on pictures that are spoiled in fixed ways")
    looks.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), help="spoil the sets' originals so")
    looks.add_argument(
        "--rival",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="networks beside the zoo's: what import-model reads, or an earlier .onnx of this project",
    )
    looks.add_argument("--base", default="", metavar="MODEL", help="tell the share of the way from it to each goal")
    looks.add_argument("--goal", nargs="+", metavar="MODEL", help="(default: the rivals, all but the base)")
    looks.add_argument("--crops", type=int, default=0, metavar="N", help="of each set, side by side, into --figures")
    looks.add_argument("--cache", type=Path, help="keeps rivals' pictures and all figures (default: nothing is kept)")
    command.add_argument(
        "--worse",
        nargs=2,
        metavar=("BLUR", "QUALITY"),
        help="blur LR by that deviation (LR pixels) and compress it as JPEG first: what `photo` is for",
    )
    command.add_argument("--show", nargs="+", default=list(MEASURES), choices=list(MEASURES), help="in the table")
    command.add_argument("--json", type=Path, help="figures are read from this file, added to and written back")
    command.add_argument("--markdown", type=Path, help="file for the table; of one with the two marks, between them")
    command.add_argument("--figures", type=Path, metavar="DIR", help="draw quality against speed, and crops")
    command.add_argument("--picture", type=Path, help="for the crops (default: a sample from scikit-image)")
    command.add_argument(
        "--box",
        nargs=4,
        type=int,
        metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"),
        help="the crop (default: most different)",
    )
    command.set_defaults(run=run_evaluate)


def add_evaluate_qr(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:

    command = commands.add_parser("evaluate-qr", help="how many QR codes are read after bicubic and after networks")
    command.add_argument("names", nargs="*", default=["fast", "qr"], metavar="MODEL", help="default: fast qr")
    command.add_argument("--codes", type=int, default=20, help="codes a condition of the grid (default: 20; 0: none)")
    command.add_argument("--goal-codes", type=int, default=500, help="codes each of the two goals (default: 500)")
    command.add_argument("--figures", type=Path, default=Path("runs/figures"), help="where pictures and figures go")
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_evaluate_qr)


def run_evaluate_qr(options: argparse.Namespace) -> None:
    print(evaluate_qr(options.models, options.names, options.codes, options.goal_codes, options.figures))


def add_evaluate_ocr(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("evaluate-ocr", help="how much of small text Tesseract reads after networks, x4")
    command.add_argument(
        "names", nargs="*", default=["bicubic", "balanced"], metavar="MODEL", help="(default: bicubic balanced)"
    )
    command.add_argument("--rival", nargs="+", default=[], type=Path, metavar="FILE", help="networks beside the zoo's")
    command.add_argument(
        "--scripts", nargs="+", default=list(LANGUAGES), choices=list(LANGUAGES), help="(default: all)"
    )
    command.add_argument(
        "--sizes", nargs="+", type=int, default=list(SIZES), metavar="PIXELS", help="of the letters in LR"
    )
    command.add_argument("--conditions", nargs="+", default=list(WAYS), choices=WAYS, help="(default: all)")
    command.add_argument("--pages", type=int, default=4, help="of each script and size (default: %(default)s)")
    command.add_argument("--models", type=Path, default=MODELS)
    command.add_argument("--cache", type=Path, help="keeps rivals' pictures (default: nothing is kept)")
    command.add_argument("--json", type=Path, help="every page's figure, written to that file")
    command.set_defaults(run=run_evaluate_ocr)


def run_evaluate_ocr(options: argparse.Namespace) -> None:
    what = (options.scripts, options.sizes, options.conditions, options.pages)
    readings = evaluate_ocr(Asked(options.models, options.names, options.rival, *what, Cache(options.cache)))
    if options.json:
        write_readings(options.json, readings)
    print(ocr_table(readings))


def run_train(options: argparse.Namespace) -> None:
    for name in options.recipes:
        folders = Folders(options.data, options.runs, options.vgg19, options.teacher)
        train(load_recipe(name), folders, options.compile, options.go_on)


def run_queue_file(options: argparse.Namespace) -> None:
    folders = Folders(options.data, options.runs, options.vgg19, options.teacher, options.models)
    run_queue(options.file, folders, options.commit)


def run_export(options: argparse.Namespace) -> None:
    for name in options.recipes:
        export(load_recipe(name), Folders(options.data, options.runs, models=options.models), options.models)


def run_import(options: argparse.Namespace) -> None:
    order = Order(
        options.file, options.name, options.scale, options.licence, options.source, options.range, options.seams
    )
    import_model(order, Folders(options.data, options.runs), options.models)


def run_evaluate(options: argparse.Namespace) -> None:
    if options.conditions:
        run_looks(options)
        return
    if options.rival or options.base or options.crops:
        raise ValueError("--rival, --base and --crops compare looks: say under which --conditions")
    folders = Folders(options.data, options.runs)
    zoo = load_zoo(options.models)
    files = choose(zoo, options.titles, options.precision)
    judges = load_judges(options.judges) if options.judges else MEASURED_ALONE
    earlier = read_records(options.json) if options.json else []
    worsened = Worsened(float(options.worse[0]), int(options.worse[1])) if options.worse else None
    measured = evaluate_zoo(zoo, files, folders, options.sets, options.measure, judges, worsened)

    known = merge(merge(known_before(zoo), earlier), measured)
    if options.json:
        write_records(options.json, known)
    shown = [record for record in known if record.sha256 in {new.sha256 for new in measured}]
    sets = [f"{name}{worsened or ''}" for name in options.sets]
    text = table(shown, sets, zoo.default, options.show)
    print(text)
    for line in against_published(measured):
        print(line, file=sys.stderr)
    if options.markdown:
        write_markdown(options.markdown, text)
    if options.figures:
        draw_scatter(shown, options.sets, options.figures)
        draw_crops(zoo, files, options.figures, options.picture, Box(*options.box) if options.box else None)


def run_looks(options: argparse.Namespace) -> None:
    zoo = load_zoo(options.models)
    rivals = read_rivals(options.rival)
    comparison = Comparison(
        files=choose(zoo, options.titles, options.precision or ["fp32"]) if options.titles else [],
        rivals=rivals,
        sets=options.sets,
        conditions=options.conditions,
        judges=load_judges(options.judges) if options.judges else MEASURED_ALONE,
        cache=Cache(options.cache),
        base=options.base,
        goals=options.goal or [rival.name for rival in rivals if rival.name != options.base],
        crops=options.crops,
        figures=options.figures,
    )
    records = evaluate_looks(zoo, comparison, Folders(options.data, options.runs), options.measure)
    if options.json:
        write_records(options.json, records)
    text = looks_table(records, comparison.base, comparison.goals)
    print(text)
    if options.markdown:
        write_markdown(options.markdown, text)


def run_card(options: argparse.Namespace) -> None:
    for path in write_cards(options.models, options.titles):
        print(path)


def run_curves(options: argparse.Namespace) -> None:
    for title in options.titles:
        run = Folders(options.data, options.runs).run(title)
        path = (options.out or run) / f"{title}-curves.png"
        save_plot(curves(read_log(run / "log.csv"), title), path)
        print(path)


if __name__ == "__main__":
    sys.exit(main())
