"""The numbers that Finn, Abbeel & Levine (2017) print, as tables.

"Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", arXiv 1703.03400. Accuracy is
in per cent, with the half-width of its 95 % interval over tasks where one is printed.
"""


def _table(text):
    """Return {method: {column: (mean, half or None)}} of a table as it is printed."""
    head, *rows = [[cell.strip() for cell in row.split("|")] for row in text.strip().splitlines()]
    return {
        method: {column: _number(cell) for column, cell in zip(head[1:], cells) if cell != "-"}
        for method, *cells in rows
    }


def _number(cell):
    mean, *half = map(float, cell.split("±"))
    return mean, half[0] if half else None


TABLES = {
    # Table 1, top. The rows that are not MAML are quoted there: MANN from Santoro et al. 2016,
    # siamese and matching nets from Vinyals et al. 2016, the neural statistician from Edwards &
    # Storkey 2017, the memory module from Kaiser et al. 2017.
    "Omniglot": _table("""
        method              | 5-way 1-shot | 5-way 5-shot | 20-way 1-shot | 20-way 5-shot
        MANN, no conv       | 82.8         | 94.9         | -             | -
        MAML, no conv       | 89.7 ± 1.1   | 97.5 ± 0.6   | -             | -
        Siamese nets        | 97.3         | 98.4         | 88.2          | 97.0
        Matching nets       | 98.1         | 98.9         | 93.8          | 98.5
        Neural statistician | 98.1         | 99.5         | 93.2          | 98.1
        Memory module       | 98.4         | 99.6         | 95.0          | 98.6
        MAML                | 98.7 ± 0.4   | 99.9 ± 0.1   | 95.8 ± 0.3    | 98.9 ± 0.2
    """),
    # Table 1, bottom. The first four rows are quoted from Ravi & Larochelle 2017.
    "MiniImageNet": _table("""
        method              | 5-way 1-shot | 5-way 5-shot
        Fine-tuning         | 28.86 ± 0.54 | 49.79 ± 0.79
        Nearest neighbour   | 41.08 ± 0.70 | 51.04 ± 0.65
        Matching nets       | 43.56 ± 0.84 | 55.31 ± 0.73
        Meta-learner LSTM   | 43.44 ± 0.77 | 60.60 ± 0.71
        MAML, first order   | 48.07 ± 1.75 | 63.15 ± 0.91
        MAML                | 48.70 ± 1.84 | 63.11 ± 0.92
    """),
    # Table 2: mean squared error. "Pretrained" is its "pretrain on all tasks"; the averaged nets
    # are of 500 tasks, with their weights regularised towards nothing, zero or their mean.
    "sinusoid": _table("""
        method              | K = 5, 1 step | K = 5, 5 steps | K = 5, 10 steps
        MAML                | 0.67          | 0.38           | 0.35
        Pretrained          | 2.41          | 2.23           | 2.19
        Averaged nets       | 4.19          | 3.85           | 3.69
        Averaged nets, l2   | 7.18          | 5.69           | 5.60
        Averaged nets, mean | 2.91          | 2.72           | 2.71
    """),
}

# What other papers print of systems that are not in the tables.
ELSEWHERE = {
    # Snell et al. 2017, Tables 1 and 2: trained with 60 (Omniglot), 30 and 20 classes an episode.
    # Nichol et al. 2018, Tables 1 and 2, with transductive batch norm. Raghu et al. 2020 (ANIL), Li
    # et al. 2017 (Meta-SGD), Rajeswaran et al. 2019 (iMAML, by gradient descent), Antoniou et al.
    # 2019 (MAML++), Ravi & Larochelle 2017 (matching nets). "MAML, tied
    # head" is of a public reproduction, bkj/ezml.
    "Omniglot": _table("""
        method          | 5-way 1-shot | 5-way 5-shot | 20-way 1-shot | 20-way 5-shot
        ProtoNet        | 98.8         | 99.7         | 96.0          | 98.9
        Reptile         | 97.68        | 99.48        | 89.43         | 97.12
        ANIL            | -            | -            | 96.2 ± 0.5    | 98.0 ± 0.3
        Meta-SGD        | 99.5         | 99.9         | 95.9          | 99.0
        iMAML           | 99.16        | 99.67        | 94.46         | 98.69
        MAML++          | 99.47        | 99.85        | 97.65         | 99.33
        MAML, tied head | -            | -            | 95.3          | -
    """),
    "MiniImageNet": _table("""
        method                | 5-way 1-shot | 5-way 5-shot
        Matching nets, no FCE | 43.40 ± 0.78 | 51.09 ± 0.71
        ProtoNet              | 49.42 ± 0.78 | 68.20 ± 0.66
        Reptile               | 49.97        | 65.99
        ANIL                  | 46.7 ± 0.4   | 61.5 ± 0.5
        Meta-SGD              | 50.47 ± 1.87 | 64.03 ± 0.94
        iMAML                 | 48.96 ± 1.84 | -
        MAML++                | 52.15 ± 0.26 | 68.32 ± 0.44
    """),
}

# By how many images of the class came before, in per cent: MANN from Santoro et al. 2016, second
# hand, who count the presentations of a class from 1.
BY_VIEW = {"MANN": {0: 36.4, 1: 82.8, 2: 91.0, 3: 92.6, 4: 94.9, 9: 98.1}}

# Returns after 0 to 3 updates, of 40 tasks. The rows of MAML on 2D navigation and on the half-
# cheetah's direction are the paper's Tables 4 and 5; all others are computed from the result files
# that the authors published with their code. Their simulator's step is 0.01 s for the half-cheetah
# and 0.02 s for the ant.
RETURNS = {
    "2D navigation": _table("""
        method     | 0 updates    | 1 update     | 2 updates  | 3 updates
        MAML       | -40.4 ± 4.0  | -11.7 ± 2.2  | -3.3 ± 0.6 | -3.2 ± 0.6
        Random     | -82.7        | -58.0        | -53.8      | -46.8
        Oracle     | -2.3         | -            | -          | -
    """),
    "half-cheetah direction": _table("""
        method     | 0 updates    | 1 update     | 2 updates    | 3 updates
        MAML       | -50.7 ± 5.7  | 293.2 ± 17.0 | 313.5 ± 15.8 | 315.7 ± 13.9
        Pretrained | -43.0        | -24.8        | -12.9        | 19.6
        Random     | -35.7        | 21.8         | 62.3         | 86.2
        Oracle     | 442.7        | -            | -            | -
    """),
    "half-cheetah velocity": _table("""
        method     | 0 updates     | 1 update    | 2 updates   | 3 updates
        MAML       | -129.5 ± 16.5 | -78.6 ± 9.9 | -66.6 ± 8.9 | -60.8 ± 8.6
        Pretrained | -158.0        | -135.4      | -128.5      | -133.6
        Random     | -254.8        | -254.3      | -246.8      | -230.8
        Oracle     | -54.5         | -           | -           | -
    """),
    "ant direction": _table("""
        method     | 0 updates  | 1 update     | 2 updates    | 3 updates
        MAML       | 8.7 ± 14.2 | 499.2 ± 32.1 | 500.7 ± 31.5 | 499.1 ± 32.5
        Pretrained | 3.2        | 1.3          | 6.5          | 6.9
        Random     | 3.1        | 9.3          | 16.0         | 26.1
        Oracle     | 524.8      | -            | -            | -
    """),
    "ant velocity": _table("""
        method     | 0 updates   | 1 update    | 2 updates    | 3 updates
        MAML       | 30.6 ± 30.0 | 96.7 ± 20.7 | 100.1 ± 21.5 | 101.4 ± 21.0
        Pretrained | -1.8        | 6.1         | 8.5          | 9.5
        Random     | -78.6       | -62.8       | -48.6        | -35.6
        Oracle     | 107.9       | -           | -            | -
    """),
}
ELSEWHERE |= RETURNS


def column(data: str, setting: str, steps: int) -> str:
    """Return the name of a result's column in the table of its data.

    Images have one number for each setting, sinusoids one for each number of gradient steps too.

    Examples
    --------
    >>> column("Omniglot", "5-way 1-shot", 3), column("sinusoid", "K = 5", 1)
    ('5-way 1-shot', 'K = 5, 1 step')
    """
    if data in RETURNS:
        return f"{steps} update{'s' * (steps != 1)}"
    if data != "sinusoid":
        return setting
    return f"{setting}, {steps} step{'s' * (steps != 1)}"


def steps(data: str, setting: str) -> int:
    """Return the number of gradient steps at test of the paper's accuracies (A.1).

    Examples
    --------
    >>> steps("Omniglot", "5-way 1-shot"), steps("MiniImageNet", "5-way 1-shot")
    (3, 10)
    """
    if data == "MiniImageNet":
        return 10
    return 5 if setting.startswith("20-way") else 3


def value(
    data: str, method: str, setting: str, steps: int | None = None
) -> tuple[float, float | None] | None:
    """Return what the paper prints, or the paper of a system that is not in it.

    Parameters
    ----------
    data : str
        "Omniglot", "MiniImageNet", "sinusoid", or one of ``RETURNS``.
    method : str
        As in the rows of :data:`TABLES` and :data:`ELSEWHERE`.
    setting : str
        "5-way 1-shot" and so on; "K = 5" of sinusoids.
    steps : int, optional
        Gradient steps at test, needed for sinusoids and returns alone.

    Returns
    -------
    (float, float or None) or None
        The mean and the half-width of its interval, in per cent or as mean squared error;
        None where the paper has no number.

    Examples
    --------
    >>> value("Omniglot", "MAML", "20-way 1-shot"), value("sinusoid", "MAML", "K = 5", steps=10)
    ((95.8, 0.3), (0.35, None))
    >>> value("Omniglot", "MAML, no conv", "20-way 1-shot")
    """
    rows = TABLES.get(data, {}) | ELSEWHERE.get(data, {})
    return rows.get(method, {}).get(column(data, setting, steps))
