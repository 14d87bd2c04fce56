# Runs in the environment of cpu.yaml: pip takes nothing without a hash beside what has one.
python -m pip install torch==2.13.0
