import torch

torch.set_num_threads(1)  # tests run side by side, and threads that wait for a busy core cost more than they bring
