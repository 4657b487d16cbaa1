"""One page to look at: a verdict in plain words, pictures of the data's own kind, numbers, and how they came about.

door         `report` of a pair
programmed   `report` of any Pyro program
page         a page: its parts, the HTML and the JSON of them; frame.html, template.html and style.css are its form
words        what verdicts and pictures mean, in plain words
parts        a part of a page: its heading, its picture, what is seen there; or why it could not be made
encoding     figures -> pictures inside a page, wide and for a phone
observed     pictures and texts of the data, and of what the model draws in their place
latents      the posterior in ArviZ's style: densities, chains, weights, k̂ of rows
numbers      tables of a page: findings, the summary by ArviZ
origins      what a page was made of: data, draws, arguments, fit, versions, seed, command
compared     the page of `zoo compare`
"""
