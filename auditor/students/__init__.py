"""Students and teachers: training on a data set, and reading out what the training did.

The student-transfer experiment, in the order in which it happens:

    settings    how students are trained, how large the experiment is
    arms        the data sets, row by row matched to the original
    control     the clean control, when the reference has to write it
    plan        blocks of rows, checkpoints, and what a budget buys
    experiment  `run_transfer`: the whole of it
    runner      the students of one block after another, kept in a run
    training    one student: LoRA or all weights, its updates
    readout     what a student would answer: margins of the traits' answer words
    summary     from margins to effects, by `auditor.inference.paired`
    result      the frozen values that it ends with

`teacher` puts a trait into a model's weights; `processes` shares the students out.
"""
