"""``python -m training``: train, evaluate, export."""

import argparse
import json
import sys
from pathlib import Path

from app.errors import EnlargerError
from app.settings import MODELS
from training.checkpoint import Folders
from training.digits import command as digits_command
from training.evaluate import TEST_SETS, evaluate_zoo, table
from training.evaluate_qr import evaluate_qr
from training.export import export
from training.recipe import load_recipe
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
    command.set_defaults(run=run_train)

    command = commands.add_parser("export", help="write the ONNX file and its manifest entry, with metrics")
    command.add_argument("recipes", nargs="+", metavar="RECIPE")
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_export)

    digits_command.add_commands(commands)

    command = commands.add_parser("evaluate", help="measure models of the zoo on test sets, through the served path")
    command.add_argument("titles", nargs="*", metavar="MODEL", help="name or name-xN (default: all)")
    command.add_argument("--sets", nargs="+", default=list(TEST_SETS), help="folders below the data folder")
    command.add_argument("--models", type=Path, default=MODELS)
    command.add_argument("--precision", default="fp32", help="which of their files (default: fp32)")
    command.add_argument("--json", type=Path, help="also write the figures to this file")
    command.set_defaults(run=run_evaluate)

    command = commands.add_parser("evaluate-qr", help="how many QR codes are read after bicubic and after networks")
    command.add_argument("names", nargs="*", default=["fast", "qr"], metavar="MODEL", help="default: fast qr")
    command.add_argument("--codes", type=int, default=20, help="codes a condition of the grid (default: 20; 0: none)")
    command.add_argument("--goal-codes", type=int, default=500, help="codes each of the two goals (default: 500)")
    command.add_argument("--figures", type=Path, default=Path("runs/figures"), help="where pictures and figures go")
    command.add_argument("--models", type=Path, default=MODELS)
    command.set_defaults(run=run_evaluate_qr)
    return root


def run_evaluate_qr(options: argparse.Namespace) -> None:
    print(evaluate_qr(options.models, options.names, options.codes, options.goal_codes, options.figures))


def run_train(options: argparse.Namespace) -> None:
    for name in options.recipes:
        train(load_recipe(name), Folders(options.data, options.runs, options.vgg19))


def run_export(options: argparse.Namespace) -> None:
    for name in options.recipes:
        export(load_recipe(name), Folders(options.data, options.runs), options.models)


def run_evaluate(options: argparse.Namespace) -> None:
    folders, sets = Folders(options.data, options.runs), tuple(options.sets)
    results = evaluate_zoo(options.models, folders, options.titles, sets, options.precision)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
