// Every text that is seen and too faint on what is behind it (WCAG 2.1, 1.4.3): its contrast, and the text.
const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const luminance = ([red, green, blue]) => 0.2126 * channel(red / 255) + 0.7152 * channel(green / 255) + 0.0722 * channel(blue / 255);
const colour = (text) => {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return [red, green, blue, alpha];
};
const over = ([red, green, blue, alpha], below) => [red, green, blue].map((value, index) => value * alpha + below[index] * (1 - alpha)).concat(1);
const behind = (element) => {
  if (!element) return [255, 255, 255, 1];
  const own = colour(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, behind(element.parentElement));
};
const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".unseen, .skip, option, noscript, template, title, style, script");
const modal = document.querySelector("dialog[open]");
const faint = [];
const look = (element, text, shade) => {
  const style = getComputedStyle(element);
  const [one, other] = [luminance(over(colour(shade), behind(element))), luminance(behind(element))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (contrast < (isLarge ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)} ${text.slice(0, 40)}`);
};
let texts = 0;
const walker = document.createTreeWalker(modal ?? document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (text === "" || !isSeen(element)) continue;
  texts += 1;
  look(element, text, getComputedStyle(element).color);
}
for (const field of (modal ?? document).querySelectorAll("input, textarea, select")) {
  if (!isSeen(field)) continue;
  texts += 1;
  look(field, field.id, getComputedStyle(field).color);
  if (field.placeholder) look(field, field.placeholder, getComputedStyle(field, "::placeholder").color);
}
return { texts, faint };
