-- Destroy takes an environment down, when somebody orders it; no policy brings it up again until somebody says apply.
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
