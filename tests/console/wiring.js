// What is wrong with how elements refer to each other, and with the order of headings.
const wrong = [];
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`two elements are #${id}`);
for (const attribute of ["for", "aria-labelledby", "aria-describedby"]) {
  for (const element of document.querySelectorAll(`[${attribute}]`)) {
    for (const id of element.getAttribute(attribute).split(" ")) if (!ids.includes(id)) wrong.push(`${attribute} leads to no #${id}`);
  }
}
const headings = [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1]));
headings.forEach((level, index) => {
  if (level > (headings[index - 1] ?? 0) + 1) wrong.push(`a heading of level ${level} follows one of ${headings[index - 1] ?? 0}`);
});
for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) wrong.push(`#${element.id} jumps the order of focus`);
if (!document.documentElement.lang) wrong.push("the page has no language");
return wrong;
