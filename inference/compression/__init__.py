"""Lossless compression with any pair: data -> file -> the same data, on any machine.

A generative model is a codec: a row takes -log2 p bits. One ulp in a probability ruins a file from there on, and floats
differ by processor, threads and batch. So the road has two halves that meet in tables of whole numbers:

    data --forms--> symbols, flags, offsets --chunks, coder--> bytes
    pair --freeze--> integer tables (a model) ---^

**Nothing but integers while symbols are coded.** A pair is frozen once: its probabilities become log tables (1 / 64
bit, int16), which stand in the file (`with_model`) or are made anew from the pair by the reader, whose SHA-256 must be
that of the file's: reproducible, or refused. From log tables to cumulative frequencies, mixtures of them and the
posterior of classes, all is int64 or float64 sums below 2^53 (`integers`).

**Exact whatever the model thinks.** Every cell is regular, missing, or an escape, that is written out. Regular ones are
symbols of a small alphabet, places in a list or bins of numbers, and the offset in the bin is coded evenly; bins cover
all numbers of the file, so a value that the model finds impossible costs 24 bits and the offset, not an error. Forms,
and how often each flag occurs, are read off the data in passes before the first byte, so memory is flat.

**One function codes in both directions.** `Writer` and `Reader` have the same methods; a model's `code(coder, symbols,
seen)` returns the symbols, and cannot compute otherwise when it reads.

**A codec of its own** is a class with `kind`, `arrays()`, `of(arrays)`, `sizes` and `code`, a line in `opening.MODELS`,
and a way from the pair to it in `freezing`, by what the pair offers (`zoo.abilities`), never by its name. `sizes` are
the alphabets of its columns, in its order. Networks are to become integer networks: weights and activations in fixed
point, products as float64 matrix products whose sums stay below 2^53, nonlinearities and softmax by `integers.exp2`.
Latents (bits back) need a stack: `coder.Stack` beside `Writer`, with `pop`, and a chunk that begins with bits of the
direct codecs. What no codec takes is coded by frequencies of the data, which stand in the file.

errors      what may go wrong with a file, in one name; and constriction, which codes
integers    integer rules: log tables, cumulative frequencies, mixtures, powers and logs of two
coder       symbols under frequencies, numbers below a size
forms       what symbols of a column are
spelling    cells to symbols and back
surveying   the form that suits a column
layout      fields and their forms, as the header has them
chunks      rows to bytes and back
container   the file
packing     bytes and arrays by programs of the standard library
sources     data in memory
files       text tables, line by line
mixture     the codec of classes whose columns are independent; with one class, of frequencies
chain       the codec of hidden states that move
network     the codec of columns given others, tables and linear-Gaussian equations
conditioning  from floats to its nodes
freezing    from pair to codec
planning    the passes before the first byte
opening     a file that is read
rates       what it costs, beside other programs
door        `compress`, `decompress`
"""
