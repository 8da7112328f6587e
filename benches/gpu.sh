#!/usr/bin/env bash
# What a machine with a GPU can tell of Martlet in one go, some ten minutes: the verdict on the device first, then steps beside PyTorch where
# python3 has torch, convolutions layer by layer, and two short trainings, one in mixed precision. For docs/measurements.
#     benches/gpu.sh [DEVICE [FOLDER]]      gpu:0, and the figures as files into measured-DATE
# MARTLET names the program, if it is not target/release/martlet; DATA a folder with MNIST.
set -uo pipefail
device=${1:-gpu:0}
into=${2:-measured-$(date -u +%Y-%m-%d)}
martlet=${MARTLET:-target/release/martlet}
mkdir -p "$into"
begun=$SECONDS

# A part that hangs or fails must not take the rest with it.
part() {
  local name=$1 limit=$2
  shift 2
  printf '\n== %s (at %s s): %s\n' "$name" $((SECONDS - begun)) "$*"
  timeout -k 5 "$limit" "$@" 2>&1 | tee "$into/$name.txt"
  printf -- '-- %s: %s\n' "$name" "${PIPESTATUS[0]}"
}

{
  command -v nvidia-smi >/dev/null && part card 10 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv
  part devices 20 "$martlet" devices
  for network in small-cnn resnet-18; do
    part "check-$network" 90 "$martlet" devices --check "$device" --network $network --mixed-precision
  done
  convolutions=(bench conv --network resnet-18 --batch 128 --rounds 3 --device "$device")
  part conv 60 "$martlet" "${convolutions[@]}" --json "$into/conv.json"
  part conv-mixed 60 "$martlet" "${convolutions[@]}" --mixed-precision --json "$into/conv-mixed.json"
  for network in resnet-18 small-cnn; do
    steps=(bench steps --network $network --batch 128 --rounds 3 --device "$device")
    # PyTorch in float32, then as it comes: with TF32 in convolutions.
    part "steps-$network" 90 env MARTLET_TF32=0 "$martlet" "${steps[@]}" --json "$into/steps-$network.json"
    part "steps-$network-mixed" 90 "$martlet" "${steps[@]}" --mixed-precision --json "$into/steps-$network-mixed.json"
  done
  training=(train --recipe mnist-mart --device "$device" --epochs 5 --seed 1 --runs-dir "$into/runs" --quiet)
  [ -n "${DATA:-}" ] && training+=(--dataset "mnist:$DATA")
  part train 150 "$martlet" "${training[@]}" --name single
  part train-mixed 150 "$martlet" "${training[@]}" --name mixed --set mixed_precision=true
  for run in single mixed; do
    part "evaluate-$run" 60 "$martlet" evaluate "$into/runs/$run" --attacks natural,fgsm,pgd-20 --device "$device"
  done
} | tee "$into/log.txt"
