startTheme();
root.dataset.ready = "true";
