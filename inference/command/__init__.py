"""What is typed: the `zoo` command.

main         finds what a command does, and says in one line what went wrong
parser       what may be typed
words        NAME=VALUE words, and the types of a pair's arguments
about        `list`, `info`
fit          `fit`
run_folder   what `fit` leaves behind
use          what works with a run folder: `sample`, `encode`, `reconstruct`, `impute`, `forecast`, `query`
files        where their data come from, where tables and pictures go
tables       mixed tables on their way to a pair and back
demo         `demo`
"""
