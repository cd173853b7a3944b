// Sets the chosen theme before anything is drawn, so that a dark page never flashes white. A classic script, not a module, for
// that reason. prefs.js changes the theme later.
"use strict";
try {
  const prefs = JSON.parse(localStorage.getItem("ollamapy.prefs") || "{}");
  if (prefs.theme === "light" || prefs.theme === "dark") document.documentElement.dataset.theme = prefs.theme;
} catch {
  // storage is off or damaged: the system's theme
}
