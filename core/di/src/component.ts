import 'reflect-metadata';
import { inject as injectByTsyringe, injectable } from 'tsyringe';

declare const provides: unique symbol;
/** A name under which a scope provides a `T`. A port and its token share one name. */
export type Token<T> = symbol & { readonly [provides]: T };
/** Makes a token. @param description - the name of the port, for messages. */
export const token = <T>(description: string): Token<T> => Symbol(description) as Token<T>;
/** The name a token was made with. */
export const nameOf = (id: Token<unknown>): string => id.description ?? 'unnamed token';

/** A class that a scope can construct. */
export type ComponentClass<T> = new (...args: never[]) => T;

const injected = new WeakMap<object, Set<number>>();
const components = new WeakSet<object>();

/** Marks a constructor parameter: the scope passes what it provides under `id`. */
export const inject =
  (id: Token<unknown>): ParameterDecorator =>
  (target, property, index) => {
    const indices = injected.get(target) ?? new Set();
    injected.set(target, indices.add(index));
    injectByTsyringe(id)(target, property, index);
  };

/**
 * Marks a class that scopes construct. Every constructor parameter must carry `@inject`: a forgotten one beside a present one
 * would otherwise arrive as `undefined`, and so would all parameters of an inherited constructor.
 * @throws {TypeError} at class definition, naming the class and the parameter.
 */
export const component =
  () =>
  (target: ComponentClass<object>): void => {
    const indices = injected.get(target) ?? new Set<number>();
    const parent: unknown = Object.getPrototypeOf(target);
    // A class without a constructor of its own reports length 0, whatever it inherits.
    if (typeof parent === 'function' && parent.length > 0 && target.length === 0 && indices.size === 0)
      throw new TypeError(`${target.name}: inherits the injected constructor of ${parent.name}; compose instead`);
    // `length` stops at the first default value; an injected parameter may come after it.
    const count = Math.max(target.length, ...[...indices].map((i) => i + 1));
    for (let i = 0; i < count; i++) if (!indices.has(i)) throw new TypeError(`${target.name}: constructor parameter ${i} has no @inject`);
    injectable()(target);
    components.add(target);
  };

/** @throws {TypeError} when the class was not marked by {@link component}. */
export function checkComponent(target: ComponentClass<object>): void {
  if (!components.has(target)) throw new TypeError(`${target.name}: has no @component()`);
}
