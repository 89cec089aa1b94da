/* Text of the page that is too faint for its ground, by WCAG 2.2, 1.4.3 (AA). Evaluated in the page. */
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r, g, b].map((c, i) => (c * a + [R, G, B][i] * (255 - a)) / 255);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const faded = ([r, g, b, a], element) => {
    for (let e = element; e; e = e.parentElement) a *= Number(getComputedStyle(e).opacity);
    return [r, g, b, a];
  };
  const poor = [];
  for (const element of (document.querySelector("#app") ?? document.body).querySelectorAll("*")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const isOutOfIt = element.closest(":disabled, [hidden], .unseen, svg, .skip") || !element.checkVisibility();
    if (!says || isOutOfIt) continue;
    const below = ground(element);
    const style = getComputedStyle(element);
    const [one, other] = [light(over(faded(rgba(style.color), element), below)), light(below)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24;
    if (ratio < (isLarge ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${element.className} ${element.textContent}`);
  }
  return poor;
}
