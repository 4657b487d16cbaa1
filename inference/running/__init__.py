"""One run of guide and model, in pieces of bounded memory.

checked      a batch that was checked, what the trace says, and sweeps over its rows and draws
cells        observations as named columns
densities    log densities of one run, discrete locals summed out
marginal     those with the locals summed or integrated out, in pieces
vectorised   one trace for many draws
mapped       a function of one point, recorded and run for many
agreeing     whether a graph does what its function does, at another point
unread       what torch reads a value for, without need
gathering    gradients of what is read piece by piece, put together at once
strided      views of memory, as selections
pieces       cuts of rows and draws that keep to `settings.memory`
width        what one draw of one row holds
deadline     when the time that a user gave is over
checkpoints  where a long run keeps what it needs to go on
signals      interrupts that wait for the end of a step
loading      ArviZ, beside other processes and on disks that nothing can be written to
effort       work that no lifetime bears, refused
quiet        a run that leaves no trace: random state, gradients, modes
expectation  what is expected of a distribution, averaged and settled
constants    what a pair takes from data, measured once and then kept
programmed   functions of a pair that take any program too
naming       which site a run had reached when it failed
words        names and numbers as messages spell them
"""
