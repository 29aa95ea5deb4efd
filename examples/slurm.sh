#!/usr/bin/env bash
# Train gen1-base on two nodes with four GPUs each: sbatch examples/slurm.sh /path/to/gen1
# The batch is shared by all processes. A job that is stopped at its time limit goes on when it is
# submitted again: SLURM sends SIGTERM two minutes before, the training saves its state and ends.
#SBATCH --job-name=ssmbook
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
data=${1:?give the folder of the preprocessed set}
# Mixed batches need a random and a stream slot in each process, hence 16; the learning rate follows as √2.
srun ssmbook train --profile gen1-base --data-dir "$data" --nodes 2 --devices 4 --batch-size 16
srun --nodes 1 --ntasks 1 ssmbook evaluate "$data/runs/s5_batch_size=16/best.ckpt" --data "$data"
