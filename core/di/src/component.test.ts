import { describe, expect, expectTypeOf, it } from 'vitest';
import { component, inject, type Token, token } from './component.ts';

const A = token<string>('A');

describe('component', () => {
  it('refuses a parameter without @inject, also beside one that has it', () => {
    expect(() => {
      @component()
      class Bare {
        constructor(readonly a: string) {}
      }
      return Bare;
    }).toThrow(new TypeError('Bare: constructor parameter 0 has no @inject'));
    expect(() => {
      @component()
      class Half {
        constructor(
          @inject(A) readonly a: string,
          readonly b: string,
        ) {}
      }
      return Half;
    }).toThrow(new TypeError('Half: constructor parameter 1 has no @inject'));
  });

  it('refuses an injected parameter behind one with a default value', () =>
    expect(() => {
      @component()
      class Late {
        constructor(
          readonly n = 1,
          @inject(A) readonly a: string = '',
        ) {}
      }
      return Late;
    }).toThrow(new TypeError('Late: constructor parameter 0 has no @inject')));

  it('refuses an inherited constructor, accepts one of its own', () => {
    @component()
    class Parent {
      constructor(@inject(A) readonly a: string) {}
    }
    expect(() => {
      @component()
      class Heir extends Parent {}
      return Heir;
    }).toThrow(new TypeError('Heir: inherits the injected constructor of Parent; compose instead'));
    expect(() => {
      @component()
      class Own extends Parent {
        constructor(@inject(A) a: string) {
          super(a);
        }
      }
      return Own;
    }).not.toThrow();
  });

  it('tells tokens of different types apart', () => {
    expectTypeOf<Token<string>>().not.toExtend<Token<number>>();
    expectTypeOf(A).toEqualTypeOf<Token<string>>();
    expect(token('A')).not.toBe(A);
  });
});
