#!/usr/bin/env bash
# CUDA against the CPU and against PyTorch on the same card, in under ten minutes; a short table comes last.
#
#   benches/gpu.sh pack FOLDER     # where there is a network: collects what a bare machine needs (about 6 GB)
#   FOLDER/gpu.sh                  # there, with the driver and nothing else
#   PROVIDER=cpu SMALL=1 FOLDER/gpu.sh   # tries the script itself, on any machine
#
# `pack` needs cargo and Python 3 with venv; PyTorch goes into the folder unless TORCH=0 (its rows are then left out).
# DEVICE is the number of the card.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

pack() {
  local folder root
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
  root=$(dirname "$here")
  (cd "$root" && cargo build --release --locked)
  cp "$root/target/release/onnx-prune" "$here/gpu.sh" "$here/gpu.py" "$folder/"
  cp "$root/models/vgg.onnx" "$root/models/fashion-mnist-train.npz" "$folder/"
  if [ "${SMALL:-0}" = 0 ]; then
    ONNX_PRUNE_HOME=$folder/home "$folder/onnx-prune" runtime install --cuda
  fi
  if [ "${TORCH:-1}" = 1 ]; then
    # Copies, not links: the folder goes to another machine, which has a Python of the same version.
    python3 -m venv --copies "$folder/python"
    "$folder/python/bin/pip" install --quiet torch torchvision onnx numpy
  fi
}

if [ "${1:-}" = pack ]; then
  pack "${2:?usage: gpu.sh pack FOLDER}"
  exit
fi

PROVIDER=${PROVIDER:-cuda:${DEVICE:-0}}
SMALL=${SMALL:-0}
export ONNX_PRUNE_HOME=${ONNX_PRUNE_HOME:-$here/home} ONNX_PRUNE_CACHE
work=$(mktemp -d)
ONNX_PRUNE_CACHE=$work/cache
trap 'rm -rf "$work"' EXIT
tool=$here/onnx-prune
python=python3
[ -x "$here/python/bin/python" ] && python=$here/python/bin/python
compare() { "$python" "$here/gpu.py" "$@"; }
rows=$work/rows
: > "$rows"
note() { printf '\n== %s\n' "$*"; }
# Runs the program; what its stages took goes into a file.
timed() { local into=$1; shift; "$tool" "$@" --timings > "$into.out" 2> "$into.log" || { cat "$into.log"; exit 1; }; }

note "what is here"
"$tool" runtime
"$tool" runtime check --provider "$PROVIDER"

note "the same numbers as the CPU's"
small=(--data "$here/fashion-mnist-train.npz" --engine ort --force)
for name in reference device; do
  place=$PROVIDER
  [ "$name" = device ] || place=cpu
  name=$work/$name
  for norm in 1 2 inf; do
    "$tool" score "$here/vgg.onnx" "${small[@]}" --provider "$place" --norm "$norm" --scale none \
      --output "$name-$norm.json" --quiet > /dev/null
  done
  "$tool" "$here/vgg.onnx" "$name.onnx" "${small[@]}" --provider "$place" --criterion weight --keep 0.3 \
    --repair least-squares --no-verify --quiet > /dev/null
  "$tool" finetune "$here/vgg.onnx" "$name-tuned.onnx" "${small[@]}" --provider "$place" --epochs 2 --json --quiet > "$name-tuned.json"
done
compare agree "$work" >> "$rows"

note "VGG16 with 1,000 classes"
# A fifth of the images is held out.
images=1250 count=1000 EPOCHS=${EPOCHS:-82} turns=3
[ "$SMALL" = 0 ] || { images=50 count=40 EPOCHS=3 turns=1; }
compare inputs "$here" "$work" "$images" "$SMALL"
vgg=(--data "$work/images.npy" --engine ort --provider "$PROVIDER" --scale none --force)
model=$work/vgg16.onnx
timed "$work/trunk" score "$model" "${vgg[@]}" --samples "$count" --norm 2 --output "$work/trunk.json"
# Two sizes and two lengths of training: their difference is what an image and an epoch take, without loading.
for turn in $(seq "$turns"); do
  for norm in 1 2 inf; do
    for samples in $((count / 5)) "$count"; do
      timed "$work/p$norm-$samples-$turn" score "$model" "${vgg[@]}" --samples "$samples" --norm "$norm" \
        --output "$work/p$norm-$samples.json"
    done
  done
  for optimizer in adamw sgd; do
    for epochs in 2 "$EPOCHS"; do
      timed "$work/$optimizer-$epochs-$turn" finetune "$model" "$work/tuned.onnx" --data "$work/images.npy" \
        --teacher "$model" --engine ort --provider "$PROVIDER" --optimizer "$optimizer" --epochs "$epochs" \
        --patience "$EPOCHS" --learning-rate 1e-5 --samples "$count" --force
    done
  done
done
compare stages "$work" "$count" "$EPOCHS" "$turns" >> "$rows"

note "PyTorch on the same card"
compare torch "$work" "$count" "${PROVIDER%%:*}" >> "$rows" || echo "PyTorch|not measured: it is not here" >> "$rows"

note "results"
compare table "$rows"
