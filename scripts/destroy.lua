-- Destroy takes an environment down, when an operator orders it; no policy brings it up again until an operator orders
-- apply.
return policy {
  queue = "all",

  watch = function()
    return nil, "only an order takes an environment down"
  end,

  run = function(run, order)
    run:destroy()
    run:hold(("taken down by %s; apply brings it up again"):format(order.by))
  end,
}
