// Shows this server's OpenAPI document, by Swagger UI.
window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  // what asks others, or keeps what a visitor typed
  validatorUrl: null,
  persistAuthorization: false,
});
