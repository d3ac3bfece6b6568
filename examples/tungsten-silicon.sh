#!/usr/bin/env bash
# From a geometry file to a judged and exported generator, with Geant4: docs/tutorials/tungsten-silicon.md.
#
#     GEANT4_DATA_DIR=FOLDER bash examples/tungsten-silicon.sh [OUT]
#
# takes about half an hour on two CPU cores. Simulations and trainings go on where a stopped run was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-tungsten-silicon}
mkdir -p "$out"
cd "$out"
geometry=$here/tungsten-silicon.toml

step() {
    echo "$ $*"
    local begin=$SECONDS
    "$@"
    echo "# $((SECONDS - begin)) s"
}

# simulate OUT NUMBER SEED: nothing where the file is there, and on from where a stopped run was.
simulate() {
    local resume=()
    [ ! -e "$1" ] || return 0
    [ ! -d "$1.blocks" ] || resume=(--resume)
    step caloforge simulate "$geometry" --particle gamma,e- -n "$2" --seed "$3" --out "$1" --workers 2 "${resume[@]}"
}

step caloforge geometry check "$geometry"
step caloforge geometry draw "$geometry" --out stack.png --force
simulate train.h5 3000 1
simulate test.h5 1000 2
step caloforge data info train.h5
for recipe in copula one-step; do
    step caloforge train "$recipe" --data train.h5 --out "$recipe" --resume
    step caloforge generate "$recipe/model.safetensors" --like train.h5 -n 1000 --out "$recipe.h5" --force
done
step caloforge evaluate test.h5 copula.h5 one-step.h5 --floor train.h5 --out judged --force
step caloforge export one-step/model.safetensors --to onnx --out one-step.onnx --force
