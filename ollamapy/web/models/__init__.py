"""Our own paths about models, which no other API has: what can be pulled, jobs, Modelfiles, options, presets."""
