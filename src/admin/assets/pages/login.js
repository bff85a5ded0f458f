// Logging in with the admin token. It is sent once and kept nowhere: a session cookie that scripts cannot read replaces it.

import { logIn } from "../api.js";
import { el } from "../dom.js";
import { busy, button, complain, field, input, notice } from "../parts.js";

export function logInPage({ reason, done }) {
  const token = input({ type: "password", name: "token", autocomplete: "current-password", required: true });
  const submit = button("Log in", { kind: "primary", type: "submit" });
  const form = el(
    "form",
    { class: "panel", novalidate: true },
    el("h1", {}, "Log in"),
    reason && notice("warn", "alert", reason),
    field("Admin token", token, { note: "It stands in admin.token in the router's data directory." }),
    submit,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(submit, async () => {
      if (!token.value.trim()) {
        complain(token, "Paste the admin token first.");
        return;
      }
      try {
        done(await logIn(token.value.trim()));
      } catch (error) {
        complain(token, [error.message, error.hint].filter(Boolean).join(". "));
        token.select();
      }
    });
  });
  token.addEventListener("input", () => token.hasAttribute("aria-invalid") && complain(token, ""));
  return el(
    "div",
    { class: "gate" },
    el("main", {}, el("div", { class: "brand" }, el("img", { src: "icon.svg", alt: "" }), "MemoryRouter"), form),
  );
}
