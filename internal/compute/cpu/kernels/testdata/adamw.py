# Makes adamw.json: five updates of torch.optim.AdamW (torch 2.8.0, one tensor at a time), as bit patterns of float32.
import json, struct, torch

torch.manual_seed(7)
cases = []
for lr, b1, b2, eps, wd, scale in [(1e-4, 0.9, 0.999, 1e-8, 0.0, 1.0), (3e-3, 0.8, 0.95, 1e-6, 0.1, 0.37)]:
    bits = lambda t: [struct.unpack("<I", struct.pack("<f", x))[0] for x in t.tolist()]
    start = torch.randn(37)
    param = torch.nn.Parameter(start.clone())
    opt = torch.optim.AdamW([param], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd, foreach=False, fused=False)
    grads = []
    for step in range(5):
        g = torch.randn(37) * 10 ** (step - 3.0)
        if step == 3:
            g[::5] = 0
        grads.append(g)
        param.grad = g * torch.tensor(scale, dtype=torch.float32)
        opt.step()
    state = opt.state[param]
    cases.append(dict(lr=lr, beta1=b1, beta2=b2, eps=eps, weight_decay=wd, scale=scale, p0=bits(start),
                      grads=[bits(g) for g in grads], p=bits(param.data), m=bits(state["exp_avg"]), v=bits(state["exp_avg_sq"])))
json.dump(cases, open("adamw.json", "w"))
