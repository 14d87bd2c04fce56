# What the commands beside it share. A run on Slurm puts this folder first on its PATH and its process
# id into PARAVERT_RUN (workflow/paravert/cluster.py): Snakemake then calls these commands in place of
# Slurm's, which come later on the PATH.
PATH=${PATH//"$(dirname "$0"):"/}

# Write a sentence to the output of the run, once a run: Snakemake does not tell what a command said.
tell_once() {
    local told=.snakemake/slurm_logs/told-$PARAVERT_RUN.log
    if [ -n "$PARAVERT_RUN" ] && ! grep -qsxFe "$1" "$told"; then
        echo "$1" >> "$told"
        echo "Slurm: $1" >> "/proc/$PARAVERT_RUN/fd/2"
    fi
} 2> /dev/null
