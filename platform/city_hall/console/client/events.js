/**
 * Listeners by the name of what they listen for. One that throws breaks neither the connection nor another one:
 * its error is reported as any uncaught one.
 *
 * @template {Record<string, any>} Kinds  what is told by each name
 */
export class Events {
  /** @type {Map<keyof Kinds, Set<(value: any) => void>>} */
  #listeners = new Map();

  /**
   * @template {keyof Kinds} Name
   * @param {Name} name
   * @param {(value: Kinds[Name]) => void} listener
   * @returns {() => void} ends it
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /**
   * @template {keyof Kinds} Name
   * @param {Name} name
   * @param {Kinds[Name]} value
   */
  emit(name, value) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
