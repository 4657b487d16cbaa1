"""What is typed: the `zoo` command.

main         finds what a command does, and says in one line what went wrong
parser       what may be typed
examples     examples at the end of its help
module       `--module`: pairs of the user's own
words        NAME=VALUE words, and the types of a pair's arguments
about        `list`, `info`
fit          `fit`
inferring    by which road, and how what it found is kept in a run
exchange     a run folder: who may write into it, and how what it holds is exchanged whole
score        the scoring that `fit` ends with, and what is said of a run that ends before
rescore      `score`
verdict      `check`
report       `report`
unseen       `score RUN DATA`: of data that the model has not seen
loading      data as a saved pair takes them
scoring      scores within a given time
room         memory for the draws and disk for the files, looked at before a fit
latents      the table of latents in what scoring says
run_folder   what scoring leaves behind
designs      regressions on tables: formulas, predictions
use          what works with a run folder: `sample`, `encode`, `reconstruct`, `impute`, `forecast`
ask          `query`, `explain`: a network asked, of one case or of the rows of a file
rows         `anomaly`, `profile`
plot         `plot`
backtest     `backtest`
compare      `compare`
compressing  `compress`, `decompress`
runs         `runs`: what stands in a folder
files        where their data come from, where tables and pictures go
tables       mixed tables on their way to a pair and back
terminal     what a terminal cannot show, escaped
demo         `demo`
"""
