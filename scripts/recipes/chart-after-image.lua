-- Chart after image: the app's Helm charts are published when their image has proved itself, so that whoever follows
-- them never sees a chart whose image does not work.
--
--   web = {
--     image = "registry.example.com/web", publish = { charts = { "charts/web" }, to = "main" },
--     environments = { staging = { policy = "chart-after-image", ... } },
--   }
return policy {
  watch = function(place)
    return place:head()
  end,

  run = function(run, head)
    local image = run:image(head.commit)
    run:release(image) -- with its checks: what fails them raises here
    image:tag("staging")
    for _, chart in ipairs(run:publish(head.commit)) do
      run:log("%s %s is published, with the image of %s", chart.name, chart.version, head.commit:sub(1, 7))
    end
  end,
}
