"""Examples at the end of the help of a command; the empty name is that of `zoo --help`."""

from __future__ import annotations

EXAMPLES = {
    "": "examples:\n  zoo list\n  zoo info gmm\n  zoo fit gmm --data iris --set components=3 --out run\n  zoo demo",
    "list": "examples:\n  zoo list\n  zoo list 'gaussian_*'\n  zoo list --data",
    "info": "examples:\n  zoo info hmm\n  zoo info run\n  zoo info gmm --set covariance=diag --graph gmm.png",
    "fit": (
        "examples:\n"
        "  zoo fit gmm --data iris --set components=3 --out run\n"
        "  zoo fit gaussian_vae --data digits --set likelihood=binomial --set trials=16 --epochs 50 --out vae\n"
        "  zoo fit hmm --data earthquakes --set emission=poisson --set states=3 --double --out quakes\n"
        "  zoo fit polynomial_regression --data table.csv --target price --set degree=2 --out run\n"
        "  zoo fit naive_bayes_vae --data patients.csv --set latent=4 --kind stage=ordinal --out run\n"
        "  zoo fit clinic.bif --data patients.csv --out run\n"
        "  zoo fit polynomial_regression --data people.csv --formula 'wage ~ age * town + I(age**2)' --out run\n"
        "  zoo fit my_model --module my_model.py --data table.csv --out run"
    ),
    "score": "examples:\n  zoo score run\n  zoo score run --data moved/table.csv --score-seconds 600\n"
    "  zoo score run new.csv --out rows.csv\n  zoo score poet lines.txt",
    "check": "examples:\n  zoo check run\n  zoo check run --json\nexits with 0, 1 or 2: trust, caution, do not trust",
    "report": "examples:\n  zoo report run\n  zoo report run --out pages/run.html\n"
    "exits with 0, 1 or 2: trust, caution, do not trust",
    "compare": "example:\n  zoo compare line curve --out models.csv --page models.html",
    "sample": "examples:\n  zoo sample vae -n 60 --out new.npy --picture new.png\n  zoo sample run --out new.csv\n"
    "  zoo sample poet --prefix 'Shall I' --temperature 0.7 --stop '\\n' --out new.txt",
    "encode": "example:\n  zoo encode vae digits --out codes.csv",
    "reconstruct": "example:\n  zoo reconstruct vae digits --out again.npy --picture again.png",
    "impute": "examples:\n  zoo impute run patients.csv --out filled.csv\n"
    "  zoo impute run patients.csv --copies 5 --out filled.csv",
    "forecast": "example:\n  zoo forecast run series.csv --horizon 24 --out next.csv --picture next.png",
    "backtest": "examples:\n  zoo backtest run series.csv --horizon 12 --folds 24\n"
    "  zoo backtest autoregressive series.csv --set order=2 --horizon 12 --out lines.csv",
    "query": "examples:\n  zoo query run lung --given smoke=yes --given xray=yes\n  zoo query run price --do size=3.5\n"
    "  zoo query asia.bif lung --given patients.csv --out lungs.csv",
    "explain": "examples:\n  zoo explain run --given dysp=yes\n  zoo explain asia.bif --given patients.csv",
    "predict": "example:\n  zoo predict run people.csv --out expected.csv",
    "anomaly": "examples:\n  zoo anomaly vae new.npy --out scores.csv\n"
    "  zoo anomaly vae new.npy --tight --reference usual.npy --out scores.csv",
    "profile": "examples:\n  zoo profile run iris\n  zoo profile run patients.csv --labels hospital --out apart.csv",
    "plot": "examples:\n  zoo plot run --out map.png\n  zoo plot run map --color species --out map.png\n"
    "  zoo plot vae traversals --set steps=7 --out dimensions.png",
    "compress": "examples:\n  zoo compress run patients.csv --out patients.zoo --with-model\n"
    "  zoo compress poet lines.txt --out lines.zoo",
    "decompress": "examples:\n  zoo decompress patients.zoo --out patients.csv\n  zoo decompress lines.zoo --run poet",
    "demo": "example:\n  zoo demo --out demo",
}
