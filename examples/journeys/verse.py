"""A text, learned letter by letter: how hard another text is to guess, line by line, and new lines in its manner.

Four sonnets of Shakespeare teach; the fifth is held against what was learned.
"""

import inference
import zoo
from zoo.datasets import text

verse = text.sonnets()
cut = verse.rindex("\n\n")
poet = zoo.create("recurrent", alphabet=text.alphabet(verse), hidden=64, steps=32)
print(inference.fit(poet, verse[:cut], steps=300))
print(inference.perplexity(poet, verse[cut:].strip()).frame())
print(inference.write(poet, 1, prompt="Shall I", temperature=0.7)[0])
inference.plot(poet, verse[:cut]).savefig("verse.png")
