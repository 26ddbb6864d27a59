import { layoutProperties } from './properties.ts';

layoutProperties(100_000);
