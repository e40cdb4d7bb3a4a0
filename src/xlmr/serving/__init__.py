"""A request becomes an answer: doors translate, the data plane answers, the batcher computes."""
