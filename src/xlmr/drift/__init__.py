"""Knowing that a model still works, language by language, without a word of what people wrote.

`signals` is what is kept of requests: counts that add up over servers. `reference` is how they were
when the model was released. `bets` weighs one against the other; `detectors` watches for alarms,
`tickets` looks back over a period, `mix` tells a change of languages from a change within one,
`embedding` looks closer where there is suspicion, `label_free` says how right answers still are.
"""
